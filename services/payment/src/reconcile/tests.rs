use contracts::ids;

use super::*;
use crate::payment::{Ask, Input, Kind, Made, Opening, Refund, step};

const ORDER: Uuid = Uuid::from_u128(1);

fn yes() -> Known {
    Known::Succeeded { auth_code: "A1".into() }
}

fn no() -> Known {
    Known::Declined { reason: "NO".into() }
}

/// A payment after these inputs.
fn payment_of(inputs: &[Input]) -> Payment {
    let opening = Opening { order_id: ORDER, provider: "sandbox", at: OffsetDateTime::UNIX_EPOCH };
    let after = inputs.iter().fold(None, |payment: Option<Payment>, input| {
        step(&opening, payment.as_ref(), None, input).expect("decided").payment.map(|payment| Payment { sent: true, ..payment })
    });
    after.expect("a payment")
}

fn ask() -> Ask {
    Ask { command_id: Uuid::from_u128(2), amount: 100, currency: "USD".into(), token: String::new() }
}

fn answered(kind: Kind, known: Known) -> Input {
    let id = ids::derive(ask().command_id, "payment");
    Input::Answered { call: Made { kind, key: id, amount: 100, currency: "USD".into() }, known }
}

fn undo() -> Input {
    Input::Undo { command_id: Uuid::from_u128(3), undoes: ask().command_id }
}

fn captured() -> Payment {
    payment_of(&[Input::Charge(ask()), answered(Kind::Charge, yes())])
}

fn entry(kind: StatementKind, payment: &Payment, amount: i64, known: Known) -> StatementEntry {
    let of = matches!(kind, StatementKind::Capture | StatementKind::Void).then(|| payment.id.to_string());
    let (key, currency) = (key_of(payment, kind).to_string(), "USD".to_owned());
    StatementEntry { key, kind, of, amount, currency, known, at: OffsetDateTime::UNIX_EPOCH }
}

fn work() -> Work {
    Work { report: Report::default(), differences_max: 10, sums: vec![0; BUCKETS] }
}

/// Both passes; what differs, and whether the fingerprints do.
fn compared(page: &[StatementEntry], books: &Books) -> (Report, bool) {
    let mut work = work();
    work.take(page, books);
    booked(books).for_each(|booked| work.sum(booked.key));
    let differ = work.sums.iter().any(|sum| *sum != 0);
    (work.report, differ)
}

fn books(payment: Payment) -> Books {
    Books { payments: vec![payment], refunds: Vec::new() }
}

fn kinds(report: &Report) -> Vec<DifferenceKind> {
    report.differences.iter().map(|difference| difference.kind).collect()
}

#[test]
fn what_both_sides_have_is_no_difference() {
    use StatementKind::{Authorize, Capture, Charge, Void};
    let authorized = [Input::Authorize(ask()), answered(Kind::Authorize, yes())];
    let capture = Input::Capture { command_id: Uuid::from_u128(4) };
    let taken = [&authorized[..], &[capture.clone(), answered(Kind::Capture, yes())]].concat();
    let refused = [&authorized[..], &[capture, answered(Kind::Capture, no())]].concat();
    let free = [&authorized[..], &[undo(), answered(Kind::Void, yes())]].concat();
    let late =
        [Input::Authorize(ask()), answered(Kind::Authorize, no()), answered(Kind::Authorize, yes()), answered(Kind::Void, yes())];
    for (inputs, entries) in [
        (vec![Input::Charge(ask()), answered(Kind::Charge, yes())], vec![(Charge, yes())]),
        (vec![Input::Charge(ask()), answered(Kind::Charge, no())], vec![(Charge, no())]),
        (vec![Input::Charge(ask()), answered(Kind::Charge, no())], vec![]),
        (vec![undo()], vec![]),
        (authorized.to_vec(), vec![(Authorize, yes())]),
        (taken, vec![(Authorize, yes()), (Capture, yes())]),
        (refused, vec![(Authorize, yes()), (Capture, no())]),
        (free, vec![(Authorize, yes()), (Void, yes())]),
        (late.to_vec(), vec![(Authorize, yes()), (Void, yes())]),
    ] {
        let payment = payment_of(&inputs);
        let page: Vec<_> = entries.into_iter().map(|(kind, known)| entry(kind, &payment, 100, known)).collect();
        let (report, differ) = compared(&page, &books(payment));
        assert_eq!((report.entries, report.open, differ), (page.len() as i64, 0, false), "{inputs:?}");
        assert_eq!(report.differences, [], "{inputs:?}");
    }
}

#[test]
fn a_void_that_was_refused_and_asked_for_again_is_ours_under_both_keys() {
    let void = |key, known| {
        let of = ids::derive(ask().command_id, "payment");
        let call = Made { kind: Kind::Void, key, amount: 100, currency: "USD".into() };
        let entry = StatementEntry {
            key: key.to_string(),
            kind: StatementKind::Void,
            of: Some(of.to_string()),
            amount: 100,
            currency: "USD".into(),
            known: Known::clone(&known),
            at: OffsetDateTime::UNIX_EPOCH,
        };
        (Input::Answered { call, known }, entry)
    };
    let again = Uuid::from_u128(5);
    let (first, second) = (ids::derive(ids::derive(ask().command_id, "payment"), "void"), ids::derive(again, "void"));
    let ((refused, refused_entry), (freed, freed_entry)) = (void(first, no()), void(second, yes()));
    let undo_again = Input::Undo { command_id: again, undoes: ask().command_id };
    let payment = payment_of(&[Input::Authorize(ask()), answered(Kind::Authorize, yes()), undo(), refused, undo_again, freed]);
    let authorized = entry(StatementKind::Authorize, &payment, 100, yes());
    let books = books(payment);
    let (report, differ) = compared(&[authorized.clone(), refused_entry, freed_entry.clone()], &books);
    assert_eq!((report.differences, differ), (vec![], false));

    let (_, landed) = void(first, yes());
    assert_eq!(kinds(&compared(&[authorized.clone(), landed, freed_entry.clone()], &books).0), [DifferenceKind::Outcome]);
    let (_, strange) = void(ORDER, no());
    assert_eq!(kinds(&compared(&[authorized, strange, freed_entry], &books).0), [DifferenceKind::MissingHere]);
}

#[test]
fn what_is_under_way_here_is_no_difference() {
    let payment = payment_of(&[Input::Charge(ask())]);
    let (report, _) = compared(&[entry(StatementKind::Charge, &payment, 100, yes())], &books(payment));
    assert_eq!((report.entries, report.open, report.differences.len()), (1, 1, 0));
}

#[test]
fn each_difference_has_its_kind() {
    let payment = captured();
    let charge = |amount, known| entry(StatementKind::Charge, &payment, amount, known);
    let (report, _) = compared(&[charge(90, yes())], &books(payment.clone()));
    assert_eq!(
        report.differences,
        [Difference {
            key: payment.id.to_string(),
            order_id: Some(ORDER),
            kind: DifferenceKind::Amount,
            ours: "CHARGE SUCCEEDED 100 USD".into(),
            theirs: "CHARGE SUCCEEDED 90 USD".into(),
        }]
    );
    assert_eq!(kinds(&compared(&[charge(100, no())], &books(payment.clone())).0), [DifferenceKind::Outcome]);
    let declined = payment_of(&[Input::Charge(ask()), answered(Kind::Charge, no())]);
    assert_eq!(kinds(&compared(&[charge(100, yes())], &books(declined)).0), [DifferenceKind::Outcome]);
    let mark = payment_of(&[undo()]);
    assert_eq!(kinds(&compared(&[charge(100, yes())], &books(mark)).0), [DifferenceKind::Outcome]);
    assert_eq!(kinds(&compared(&[charge(100, yes())], &Books::default()).0), [DifferenceKind::MissingHere]);
    let strange = StatementEntry { key: "strange".into(), ..charge(100, yes()) };
    assert_eq!(kinds(&compared(&[strange], &books(payment.clone())).0), [DifferenceKind::MissingHere]);

    let (report, differ) = compared(&[], &books(payment));
    assert!(report.differences.is_empty() && differ, "the provider is asked about the key");
}

#[test]
fn refunds_are_compared_too() {
    let refund = |state, reason: &str| Refund {
        id: Uuid::from_u128(9),
        payment_id: captured().id,
        command_id: None,
        amount: 40,
        currency: "USD".into(),
        state,
        reason: reason.into(),
        unknown_said: false,
    };
    let books = |refund| Books { payments: Vec::new(), refunds: vec![RefundOf { order_id: ORDER, refund }] };
    let entry = |known| StatementEntry {
        key: Uuid::from_u128(9).to_string(),
        kind: StatementKind::Refund,
        of: Some(captured().id.to_string()),
        amount: 40,
        currency: "USD".into(),
        known,
        at: OffsetDateTime::UNIX_EPOCH,
    };
    assert_eq!(kinds(&compared(&[entry(yes())], &books(refund(RefundState::Succeeded, ""))).0), []);
    assert_eq!(kinds(&compared(&[entry(no())], &books(refund(RefundState::Refused, "NO"))).0), []);
    assert_eq!(compared(&[entry(yes())], &books(refund(RefundState::InFlight, ""))).0.open, 1);
    let refused_here = refund(RefundState::Refused, REFUND_EXCEEDS_CAPTURE);
    assert_eq!(kinds(&compared(&[], &books(refused_here.clone())).0), [], "it was never asked for");
    assert_eq!(kinds(&compared(&[entry(yes())], &books(refused_here)).0), [DifferenceKind::Outcome]);
}

#[test]
fn no_more_differences_are_kept_than_were_asked_for() {
    let mut work = Work { differences_max: 2, ..work() };
    let payment = captured();
    let page = vec![entry(StatementKind::Charge, &payment, 100, yes()); 5];
    work.take(&page, &Books::default());
    assert_eq!((work.report.differences.len(), work.report.truncated, work.report.entries), (2, true, 3));
}
