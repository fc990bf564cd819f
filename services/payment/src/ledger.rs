//! The ledger's accounts: every transfer is a row that debits one and credits another, so they balance by construction.

pub(crate) mod store;

use std::collections::BTreeMap;

/// What moved between two accounts, in minor units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) debit: String,
    pub(crate) credit: String,
    pub(crate) currency: String,
    pub(crate) amount: i64,
}

/// The sums of an account in one currency, in minor units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) account: String,
    pub(crate) currency: String,
    pub(crate) debit: i64,
    pub(crate) credit: i64,
}

/// All accounts, by currency and name. `None` if a sum does not fit.
pub(crate) fn trial_balance(moved: Vec<Moved>) -> Option<Vec<Account>> {
    let mut sums: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
    for Moved { debit, credit, currency, amount } in moved {
        let debited = &mut sums.entry((currency.clone(), debit)).or_default().0;
        *debited = debited.checked_add(amount)?;
        let credited = &mut sums.entry((currency, credit)).or_default().1;
        *credited = credited.checked_add(amount)?;
    }
    let account = |((currency, account), (debit, credit))| Account { account, currency, debit, credit };
    Some(sums.into_iter().map(account).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(debit: &str, credit: &str, currency: &str, amount: i64) -> Moved {
        Moved { debit: debit.into(), credit: credit.into(), currency: currency.into(), amount }
    }

    #[test]
    fn debits_equal_credits_in_each_currency() {
        let balance = trial_balance(vec![
            moved("receivable:sandbox", "sales", "USD", 2_400),
            moved("sales", "receivable:sandbox", "USD", 900),
            moved("receivable:sandbox", "sales", "JPY", 7),
        ])
        .expect("it fits");
        let rows: Vec<_> = balance.iter().map(|a| (a.currency.as_str(), a.account.as_str(), a.debit, a.credit)).collect();
        assert_eq!(
            rows,
            [
                ("JPY", "receivable:sandbox", 7, 0),
                ("JPY", "sales", 0, 7),
                ("USD", "receivable:sandbox", 2_400, 900),
                ("USD", "sales", 900, 2_400)
            ]
        );
        for currency in ["JPY", "USD"] {
            let of = |sum: fn(&Account) -> i64| balance.iter().filter(|a| a.currency == currency).map(sum).sum::<i64>();
            assert_eq!(of(|a| a.debit), of(|a| a.credit));
        }
    }

    #[test]
    fn a_sum_that_does_not_fit_is_none() {
        let most = || moved("a", "b", "USD", i64::MAX);
        assert!(trial_balance(vec![most()]).is_some());
        assert_eq!(trial_balance(vec![most(), most()]), None);
    }
}
