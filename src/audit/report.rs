//! What an audit comes to, for people and programs.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    charge::Charge,
    found::{
        Found,
        Invariant::{self, I7},
    },
    store::Accounts,
};
use crate::client::Output;

/// Kept of each invariant, and of what needs a person; the others are counted.
const KEPT_MAX: usize = 1_000;
const PRINTED_MAX: usize = 20;

/// Of an order, a charge or a product, for people; and the order it belongs to.
pub(super) type Name = (String, Option<Uuid>);

/// Said of one order, charge or product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub about: String,
    pub order_id: Option<Uuid>,
    pub says: String,
}

impl Note {
    fn json(&self) -> Value {
        json!({"order_id": self.order_id.map(|id| id.to_string()), "about": self.about, "says": self.says})
    }
}

#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// The first of them.
    pub kept: Vec<Note>,
    pub count: usize,
}

impl Notes {
    fn add(&mut self, (about, order_id): &Name, says: String) {
        self.count += 1;
        if self.kept.len() < KEPT_MAX {
            self.kept.push(Note { about: about.clone(), order_id: *order_id, says });
        }
    }

    fn json(&self) -> Value {
        self.kept.iter().map(Note::json).collect()
    }

    fn print(&self) {
        for Note { about, says, .. } in self.kept.iter().take(PRINTED_MAX) {
            say!("      {about}: {says}");
        }
        if self.count > PRINTED_MAX {
            say!("      and {} more", self.count - PRINTED_MAX);
        }
    }
}

/// One invariant.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    pub checked: usize,
    /// On its way when it was looked at.
    pub open: usize,
    pub violations: Notes,
}

/// The money of one currency, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Of the ledger's accounts: what was sold less what was given back, and what providers owe.
    pub sales: i128,
    pub receivable: i128,
    /// Of the payments.
    pub captured: i128,
    pub refunded: i128,
    /// Of the provider's statement: taken less given back.
    pub statement: i128,
}

#[derive(Clone, Debug)]
pub struct Report {
    at_rest: bool,
    pub invariants: BTreeMap<Invariant, Judged>,
    pub attention: Notes,
    pub balances: BTreeMap<String, Balance>,
}

impl Report {
    pub(super) fn new(at_rest: bool) -> Self {
        let invariants = Invariant::ALL.into_iter().map(|invariant| (invariant, Judged::default())).collect();
        Self { at_rest, invariants, attention: Notes::default(), balances: BTreeMap::new() }
    }

    fn of(&mut self, invariant: Invariant) -> &mut Judged {
        self.invariants.entry(invariant).or_default()
    }

    pub(super) fn count(&mut self, counts: &[(Invariant, usize)]) {
        for (invariant, count) in counts {
            self.of(*invariant).checked += count;
        }
    }

    /// Nothing is wrong with it, as far as one can ask for now.
    pub(super) fn pass(&mut self, name: impl Fn() -> Name, found: Found) {
        for (invariant, _) in found.open {
            self.of(invariant).open += 1;
        }
        found.attention.into_iter().for_each(|says| self.attention.add(&name(), says));
    }

    pub(super) fn convict(&mut self, name: &Name, found: Found) {
        let Found { wrong, open, attention } = found;
        let (still_open, not_yet) = if self.at_rest { (open, Vec::new()) } else { (Vec::new(), open) };
        for (invariant, says) in wrong.into_iter().chain(still_open) {
            self.of(invariant).violations.add(name, says);
        }
        self.pass(|| name.clone(), Found { wrong: Vec::new(), open: not_yet, attention });
    }

    /// So many looked wrong and were not looked at again.
    pub(super) fn add_unread(&mut self, count: usize) {
        if count > 0 {
            let name = ("more".to_owned(), None);
            self.of(I7).violations.add(&name, format!("{count} look wrong as well; they were not looked at twice"));
        }
    }

    pub(super) fn weigh(&mut self, charge: &Charge) {
        if let Some(payment) = &charge.payment {
            let balance = self.balances.entry(payment.currency.clone()).or_default();
            balance.captured += i128::from(payment.captured);
            balance.refunded += i128::from(payment.refunded);
        }
        if let Some(entry) = &charge.entry
            && let Some(currency) = entry.currencies.first()
        {
            self.balances.entry(currency.clone()).or_default().statement += i128::from(entry.taken) - i128::from(entry.back);
        }
    }

    /// The ledger was read in the same moment as the payments. The statement must agree if `settled`.
    pub(super) fn balance(&mut self, accounts: Vec<Accounts>, orphans: &[(Uuid, i64)], settled: bool) {
        for Accounts { currency, sales, receivable } in accounts {
            let balance = self.balances.entry(currency).or_default();
            (balance.sales, balance.receivable) = (sales.into(), receivable.into());
        }
        // A mark that refuses a charge has no currency, and no money.
        self.balances.retain(|_, balance| *balance != Balance::default());
        for (currency, balance) in self.balances.clone() {
            let Balance { sales, receivable, captured, refunded, statement } = balance;
            let name = (format!("currency {currency}"), None);
            if sales != receivable {
                let says = format!("the ledger does not sum to 0: {sales} were sold, {receivable} are owed");
                self.of(I7).violations.add(&name, says);
            }
            if sales != captured - refunded {
                let says = format!("revenue is {sales}, {captured} were taken less {refunded}");
                self.of(I7).violations.add(&name, says);
            }
            if settled && sales != statement {
                self.of(I7).violations.add(&name, format!("revenue is {sales}, the statement has {statement}"));
            }
        }
        for (payment, transfers) in orphans {
            let name = (format!("payment {payment}"), None);
            self.of(I7).violations.add(&name, format!("{transfers} transfers in the ledger, and no such payment"));
        }
    }

    /// How many violations there are.
    #[must_use]
    pub fn violations(&self) -> usize {
        self.invariants.values().map(|judged| judged.violations.count).sum()
    }

    /// What is violated, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let line = |(invariant, judged): (&Invariant, &Judged)| {
            let id = invariant.id();
            judged.violations.kept.iter().map(|Note { about, says, .. }| format!("{id} {about}: {says}")).collect::<Vec<_>>()
        };
        self.invariants.iter().flat_map(line).collect()
    }

    #[must_use]
    pub fn json(&self) -> Value {
        let invariants: Vec<Value> = self
            .invariants
            .iter()
            .map(|(invariant, judged)| {
                json!({
                    "id": invariant.id(), "statement": invariant.statement(), "checked": judged.checked, "open": judged.open,
                    "violations_count": judged.violations.count, "violations": judged.violations.json(),
                })
            })
            .collect();
        let balances: Vec<Value> = self
            .balances
            .iter()
            .map(|(currency, balance)| {
                json!({
                    "currency": currency, "revenue": balance.sales.to_string(), "captured": balance.captured.to_string(),
                    "refunded": balance.refunded.to_string(), "statement": balance.statement.to_string(),
                })
            })
            .collect();
        json!({
            "at_rest": self.at_rest, "invariants": invariants, "balances": balances,
            "attention_count": self.attention.count, "attention": self.attention.json(), "ok": self.violations() == 0,
        })
    }

    pub(super) fn print(&self, output: Output) {
        if output == Output::Json {
            return say!("{}", self.json());
        }
        for (invariant, judged) in &self.invariants {
            let Judged { checked, open, violations } = judged;
            let verdict = if violations.count == 0 { "ok" } else { "NO" };
            let found = format!("{checked} checked, {} violations, {open} open", violations.count);
            say!("{verdict:<3} {}  {found:<48}  {}", invariant.id(), invariant.statement());
            violations.print();
        }
        for (currency, Balance { sales, captured, refunded, statement, .. }) in &self.balances {
            say!("    {currency} revenue {sales} = {captured} taken - {refunded} given back; the statement has {statement}");
        }
        say!("    {} need a person", self.attention.count);
        self.attention.print();
    }
}
