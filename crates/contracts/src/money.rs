//! Money: whole minor units of a currency (ISO 4217), checked, never a float.

/// Codes in use, from ISO 4217. Funds, metals and test codes are left out: nobody is charged in them.
const CURRENCIES: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF \
CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR \
IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN \
MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN \
SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG";

/// A currency's code, known to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Reads a code such as `USD`; lower case is not accepted.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        let bytes: [u8; 3] = code.as_bytes().try_into().ok()?;
        CURRENCIES.split(' ').any(|known| known == code).then_some(Self(bytes))
    }

    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The sum of `quantity * unit_price` over all lines; `None` if it does not fit.
#[must_use]
pub fn total(lines: impl IntoIterator<Item = (i32, i64)>) -> Option<i64> {
    lines.into_iter().try_fold(0_i64, |sum, (quantity, unit_price)| sum.checked_add(unit_price.checked_mul(i64::from(quantity))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_upper_case_and_known() {
        assert_eq!(Currency::parse("LKR").map(|c| c.code().to_owned()), Some("LKR".to_owned()));
        for bad in ["", "us", "usd", "XXX", "USDD", "U D", "€"] {
            assert_eq!(Currency::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_total_that_does_not_fit_is_none() {
        assert_eq!(total([(2, 1200), (1, 5)]), Some(2405));
        assert_eq!(total([(2, i64::MAX / 2 + 1)]), None);
        assert_eq!(total([(1, i64::MAX), (1, 1)]), None);
    }
}
