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

/// Digits behind the point, from ISO 4217; 2 of a code that is not known.
#[must_use]
pub fn minor_digits(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND" | "VUV" | "XAF"
        | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

/// An amount as people write it: `1234` minor units are 12.34 USD, 1234 JPY and 1.234 KWD.
#[must_use]
pub fn readable(minor: i64, currency: &str) -> String {
    let digits = minor_digits(currency);
    if digits == 0 {
        return format!("{minor} {currency}");
    }
    let sign = if minor < 0 { "-" } else { "" };
    let unit = 10_u64.pow(digits);
    let (whole, rest) = (minor.unsigned_abs() / unit, minor.unsigned_abs() % unit);
    format!("{sign}{whole}.{rest:0width$} {currency}", width = digits as usize)
}

/// Why a text is not an amount of a currency.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAmount {
    #[error("must be a decimal number such as 12.50, without exponent")]
    NotDecimal,
    #[error("must not be finer than {}: {currency} has {digits} digits behind the point", finest(*.digits))]
    TooFine { currency: String, digits: u32 },
    #[error("must not be more than {}", readable(i64::MAX, .currency))]
    TooLarge { currency: String },
}

fn finest(digits: u32) -> String {
    if digits == 0 { "1".to_owned() } else { format!("0.{:0>width$}", 1, width = digits as usize) }
}

/// Minor units of a decimal number as people and JSON write it: 12.5 of USD are 1250, of KWD 12500. Nothing is rounded: zeros may follow
/// the currency's last digit, other digits may not.
pub fn minor_units(decimal: &str, currency: Currency) -> Result<i64, NotAnAmount> {
    let (sign, unsigned) = match decimal.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, decimal),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) {
        return Err(NotAnAmount::NotDecimal);
    }
    let digits = minor_digits(currency.code());
    let (kept, beyond) = fraction.split_at(fraction.len().min(digits as usize));
    if beyond.bytes().any(|byte| byte != b'0') {
        return Err(NotAnAmount::TooFine { currency: currency.code().to_owned(), digits });
    }
    let minor: Option<i64> = format!("{whole}{kept:0<width$}", width = digits as usize).parse().ok();
    minor.map(|minor| sign * minor).ok_or_else(|| NotAnAmount::TooLarge { currency: currency.code().to_owned() })
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
    fn amounts_have_the_digits_of_their_currency() {
        for (minor, currency, expected) in [
            (1234, "USD", "12.34 USD"),
            (5, "EUR", "0.05 EUR"),
            (0, "USD", "0.00 USD"),
            (1234, "JPY", "1234 JPY"),
            (1234, "KWD", "1.234 KWD"),
            (-1, "USD", "-0.01 USD"),
            (i64::MIN, "USD", "-92233720368547758.08 USD"),
        ] {
            assert_eq!(readable(minor, currency), expected);
        }
    }

    #[test]
    fn every_currency_has_0_2_or_3_digits() {
        let digits = |wanted| CURRENCIES.split(' ').filter(|code| minor_digits(code) == wanted).count();
        // UYI is a unit of account: it has no digits, and nobody is charged in it.
        assert_eq!((digits(0), digits(3), digits(0) + digits(2) + digits(3)), (16, 7, CURRENCIES.split(' ').count()));
    }

    #[test]
    fn a_decimal_number_is_read_to_the_minor_unit() {
        let read = |decimal: &str, code: &str| minor_units(decimal, Currency::parse(code).expect("a currency"));
        for (decimal, code, expected) in [
            ("299.99", "USD", 29_999),
            ("12.5", "USD", 1_250),
            ("100", "USD", 10_000),
            ("0.01", "USD", 1),
            ("12.500", "USD", 1_250),
            ("-0.01", "USD", -1),
            ("222.22", "EUR", 22_222),
            ("1234", "JPY", 1_234),
            ("1234.00", "JPY", 1_234),
            ("1.234", "KWD", 1_234),
            ("0.1", "KWD", 100),
            ("92233720368547758.07", "USD", i64::MAX),
            ("9007199254740993.01", "USD", 900_719_925_474_099_301),
        ] {
            assert_eq!(read(decimal, code), Ok(expected), "{decimal} {code}");
        }
        for (decimal, code) in [("0.001", "USD"), ("0.5", "JPY"), ("0.0001", "KWD"), ("1.005", "USD")] {
            assert!(matches!(read(decimal, code), Err(NotAnAmount::TooFine { .. })), "{decimal} {code}");
        }
        for bad in ["", "-", ".", "1.", ".5", "1e2", "1E2", "+1", " 1", "1,5", "0x1", "1.2.3", "--1", "NaN", "١"] {
            assert_eq!(read(bad, "USD"), Err(NotAnAmount::NotDecimal), "{bad:?}");
        }
        for (large, code) in [("92233720368547758.08", "USD"), ("9223372036854775808", "JPY"), ("9223372036854775.808", "KWD")] {
            assert!(matches!(read(large, code), Err(NotAnAmount::TooLarge { .. })), "{large} {code}");
        }
        assert_eq!(read("0.5", "JPY").unwrap_err().to_string(), "must not be finer than 1: JPY has 0 digits behind the point");
        assert_eq!(read("0.001", "USD").unwrap_err().to_string(), "must not be finer than 0.01: USD has 2 digits behind the point");
    }

    #[test]
    fn a_total_that_does_not_fit_is_none() {
        assert_eq!(total([(2, 1200), (1, 5)]), Some(2405));
        assert_eq!(total([(2, i64::MAX / 2 + 1)]), None);
        assert_eq!(total([(1, i64::MAX), (1, 1)]), None);
    }
}
