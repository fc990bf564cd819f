use super::*;

const RETRY: Input = Input::Operator(Operation::Retry);
const SKIP: Input = Input::Operator(Operation::Skip);
const PAUSE: Input = Input::Operator(Operation::Pause);
const RESUME: Input = Input::Operator(Operation::Resume);

const fn ask_again(step: usize, attempt: u8) -> Command {
    Command::Do { step, attempt }
}

const fn undo_again(step: usize, attempt: u8) -> Command {
    Command::Undo { step, attempt }
}

/// Both undos are refused, and the hotel's is the last step's.
const HELD: [Input; 6] = [Input::Started, done(ask(0)), done(ask(1)), Input::Cancel, refused(undo(1)), refused(undo(0))];

fn then(inputs: &[Input], more: &[Input]) -> (Progress, Vec<Command>) {
    play(&[inputs, more].concat())
}

fn allowed(progress: &Progress) -> Vec<Operation> {
    let all = [Operation::Retry, Operation::Skip, Operation::Pause, Operation::Resume];
    all.into_iter().filter(|operation| progress.allows(&TRIP, *operation)).collect()
}

#[test]
fn a_retry_asks_a_silent_step_again_under_its_own_id_with_a_fresh_budget() {
    let silent = [Input::Started, Input::Deadline, Input::Deadline, Input::Deadline];
    let (progress, asked) = then(&silent, &[RETRY]);
    assert_eq!(asked, [ask(0)]);
    assert_eq!((progress.state(), progress.resent), (State::Running, 0));
    assert_eq!(then(&silent, &[RETRY, Input::Deadline]).1, [ask(0)]);

    let silent = [&[Input::Started, done(ask(0)), Input::Cancel][..], &silent[1..]].concat();
    assert_eq!(then(&silent, &[]).0.state(), State::NeedsAttention);
    assert_eq!(then(&silent, &[RETRY]), (then(&silent[..3], &[]).0, vec![undo(1)]), "and a silent undo");
    let silent = [&[Input::Started, refused(ask(0))][..], &silent[3..]].concat();
    assert_eq!(then(&silent, &[]).0.state(), State::NeedsAttention);
    assert_eq!(then(&silent, &[RETRY]), (then(&silent[..2], &[]).0, vec![CLOSE]), "and a silent close");
}

#[test]
fn a_retry_need_not_wait_for_the_deadlines() {
    let (progress, _) = play(&[Input::Started]);
    assert_eq!(play(&[Input::Started, RETRY]), (progress.clone(), vec![ask(0)]));
    assert_eq!(play(&[Input::Started, RETRY, RETRY]), (progress, vec![ask(0)]));
}

#[test]
fn done_counts_of_any_attempt_and_refused_of_the_last_alone() {
    let retried = [Input::Started, done(ask(0)), done(ask(1)), done(ask(2)), refused(ask(3)), RETRY];
    assert_eq!(then(&retried, &[done(ask(3))]).0.phase, Phase::Done, "the effect is the same");
    assert_eq!(then(&retried, &[done(ask_again(3, 2))]).0.phase, Phase::Done);
    assert_eq!(then(&retried, &[refused(ask(3))]), (play(&retried).0, vec![]), "the second attempt is answered too");
    assert_eq!(then(&retried, &[Input::Unknown { to: ask(3) }]), (play(&retried).0, vec![]));
    assert_eq!(then(&retried, &[refused(ask_again(3, 2))]).0.state(), State::NeedsAttention);
    assert_eq!(then(&retried, &[done(ask_again(3, 3))]), (play(&retried).0, vec![]), "was never asked");
}

#[test]
fn answers_to_all_attempts_are_known_by_their_ids() {
    let saga = Uuid::from_u128(7);
    let (progress, asked) = then(&HELD, &[RETRY, refused(undo_again(1, 2)), done(undo_again(0, 2)), RETRY]);
    assert_eq!(asked, [undo_again(1, 3)]);
    for command in [ask(1), ask_again(1, 2), undo(1), undo_again(1, 2), undo_again(1, 3)] {
        let like = command.with_attempt(1);
        assert_eq!(progress.named(&TRIP, saga, like, command.id(&TRIP, saga)), Some(command));
    }
}

#[test]
fn what_was_refused_is_a_new_attempt_and_what_has_no_answer_is_not() {
    let (progress, asked) = then(&HELD[..5], &[RETRY]);
    assert_eq!((progress.to_string(), asked), ("U1,U2,R1,S0 unwinding cancelled".to_owned(), vec![undo_again(1, 2)]));
    assert_eq!(then(&HELD[..5], &[RETRY, refused(undo(0))]), (progress, vec![]), "it says so again when it is asked again");
    assert_eq!(then(&HELD[..5], &[RETRY, done(undo_again(1, 2))]).1, [undo(0)]);
    assert_eq!(then(&HELD[..5], &[RETRY, done(undo(0)), done(undo_again(1, 2))]).1, [CLOSE]);
}

#[test]
fn refused_undos_are_asked_again_one_after_the_other_the_last_step_first() {
    let (progress, asked) = then(&HELD, &[RETRY]);
    assert_eq!((progress.state(), asked), (State::Compensating, vec![undo_again(1, 2)]));
    assert_eq!(names(&progress), ["CancelHotel", "CancelFlight", "EndTrip"]);
    assert_eq!(then(&HELD, &[RETRY, done(undo_again(1, 2))]).1, [undo_again(0, 2)]);
    assert_eq!(then(&HELD, &[RETRY, refused(undo_again(1, 2))]).1, [undo_again(0, 2)]);
    let (progress, asked) = then(&HELD, &[RETRY, refused(undo_again(1, 2)), done(undo_again(0, 2))]);
    assert_eq!((progress.state(), asked), (State::NeedsAttention, vec![]));
    assert_eq!(then(&HELD, &[RETRY, done(undo_again(1, 2)), done(undo_again(0, 2))]).1, [CLOSE]);
    assert_eq!(then(&HELD, &[RETRY, done(undo(0)), done(undo(1))]).1, [CLOSE], "late, but done");
}

#[test]
fn a_retry_goes_on_behind_the_pivot() {
    let refusal = [Input::Started, done(ask(0)), done(ask(1)), done(ask(2)), refused(ask(3))];
    assert_eq!(then(&refusal, &[RETRY]).1, [ask_again(3, 2)]);
    assert_eq!(then(&refusal, &[RETRY, refused(ask(3)), done(ask_again(3, 2))]).0.state(), State::Done);
    assert_eq!(allowed(&play(&refusal).0), [Operation::Retry, Operation::Pause], "there is no way around it");
}

#[test]
fn a_refused_close_is_asked_again() {
    let refusal = [Input::Started, refused(ask(0)), refused(CLOSE)];
    let (progress, _) = play(&refusal);
    assert_eq!((progress.state(), allowed(&progress)), (State::NeedsAttention, vec![Operation::Retry, Operation::Pause]));
    let (progress, asked) = then(&refusal, &[RETRY]);
    assert_eq!(
        (asked, progress.to_string()),
        (vec![Command::Close { attempt: 2 }], "R1,S0,S0,S0 closing refused=0 reclosed=1".into())
    );
    for close in [CLOSE, Command::Close { attempt: 2 }] {
        assert_eq!(then(&refusal, &[RETRY, done(close)]).0.state(), State::Undone);
    }
    assert_eq!(then(&refusal, &[RETRY, refused(CLOSE)]), (progress, vec![]));
}

#[test]
fn a_refused_close_is_told_from_one_that_has_no_answer() {
    let silent = [Input::Started, refused(ask(0)), Input::Deadline, Input::Deadline];
    assert!(!play(&silent).0.is_close_refused(), "it is only late");
    let (refusal, _) = then(&silent, &[refused(CLOSE)]);
    assert!(refusal.is_close_refused(), "however often it was asked before");
    assert!(refusal.to_string().parse::<Progress>().unwrap().is_close_refused());
    let (silent, _) = then(&silent, &[refused(CLOSE), RETRY, Input::Deadline, Input::Deadline, Input::Deadline]);
    assert_eq!((silent.state(), silent.is_close_refused()), (State::NeedsAttention, false));
}

#[test]
fn attempts_have_an_end() {
    let spent: Progress = "D1,D1,D1,R255 forward stuck".parse().unwrap();
    assert_eq!(allowed(&spent), [Operation::Pause]);
    assert_eq!(next(&TRIP, spent.clone(), RETRY), (spent, vec![]));
    let spent: Progress = "X255,X1,R1,S0 unwinding stuck".parse().unwrap();
    assert_eq!(allowed(&spent), [Operation::Skip, Operation::Pause]);
    let last: Progress = "R1,S0,S0,S0 closing reclosed=254".parse().unwrap();
    let last_close = Command::Close { attempt: 255 };
    assert_eq!((last.asked(), allowed(&last)), (Some(last_close), vec![Operation::Retry, Operation::Pause]));
    assert_eq!(allowed(&next(&TRIP, last, refused(last_close)).0), [Operation::Pause]);
}

#[test]
fn a_skip_turns_back_and_undoes_what_may_still_come() {
    let unknown = [Input::Started, done(ask(0)), Input::Unknown { to: ask(1) }];
    let (progress, asked) = then(&unknown, &[SKIP]);
    assert_eq!((progress.cause, progress.state(), asked), (Some(Cause::Skipped { step: 1 }), State::Compensating, vec![undo(1)]));
    assert_eq!(names(&progress), ["CancelHotel", "CancelFlight", "EndTrip"]);
}

#[test]
fn nothing_is_skipped_that_is_not_stuck_nor_the_pivot() {
    for inputs in [
        &[Input::Started][..],
        &[Input::Started, done(ask(0)), Input::Cancel],
        &[Input::Started, done(ask(0)), done(ask(1)), Input::Unknown { to: ask(2) }],
        &[Input::Started, done(ask(0)), done(ask(1)), done(ask(2)), Input::Unknown { to: ask(3) }],
        &[Input::Started, refused(ask(0)), Input::Unknown { to: CLOSE }],
    ] {
        let (progress, _) = play(inputs);
        assert!(!progress.allows(&TRIP, Operation::Skip), "{progress}");
        assert_eq!(then(inputs, &[SKIP]), (progress, vec![]));
    }
}

#[test]
fn a_skip_takes_undos_for_settled_by_hand() {
    let (progress, asked) = then(&HELD, &[SKIP]);
    assert_eq!((progress.to_string(), asked), ("S1,S1,R1,S0 closing cancelled".to_owned(), vec![CLOSE]));
    assert_eq!(names(&progress), ["EndTrip"]);
    for late in [refused(undo(0)), done(ask(0))] {
        assert_eq!(then(&HELD, &[SKIP, late]), (progress.clone(), vec![]));
    }

    let silent = [Input::Started, done(ask(0)), Input::Cancel, Input::Unknown { to: undo(1) }];
    let (progress, asked) = then(&silent, &[SKIP]);
    assert_eq!((progress.to_string(), asked), ("U1,S1,S0,S0 unwinding cancelled".to_owned(), vec![undo(0)]));

    let both = [&HELD[..5], &[Input::Unknown { to: undo(0) }]].concat();
    let (progress, asked) = then(&both, &[SKIP]);
    assert_eq!(
        (progress.to_string(), asked),
        ("S1,S1,R1,S0 closing cancelled".to_owned(), vec![CLOSE]),
        "a person was told of both"
    );
}

#[test]
fn a_skip_leaves_alone_an_undo_that_waits_for_its_turn() {
    let (progress, asked) = then(&HELD, &[RETRY, Input::Unknown { to: undo_again(1, 2) }, SKIP]);
    assert_eq!((progress.to_string(), asked), ("U2,S2,R1,S0 unwinding cancelled".to_owned(), vec![undo_again(0, 2)]));
    assert_eq!(names(&progress), ["CancelFlight", "EndTrip"], "it was never asked again, and nobody was told of it");
}

#[test]
fn what_was_taken_for_settled_and_is_undone_after_all_is_written_down_and_asks_nothing() {
    for (before, stands, late) in [
        (&[SKIP][..], "S1,S1,R1,S0 closing cancelled", "S1,B1,R1,S0 closing cancelled"),
        (&[SKIP, done(CLOSE)], "S1,S1,R1,S0 undone cancelled", "S1,B1,R1,S0 undone cancelled"),
    ] {
        assert_eq!(then(&HELD, before).0.to_string(), stands);
        let heard = [before, &[done(undo(1))]].concat();
        let (progress, asked) = then(&HELD, &heard);
        assert_eq!((progress.to_string().as_str(), asked), (late, vec![]));
        assert_eq!(next(&TRIP, progress.clone(), done(undo(1))), (progress, vec![]), "once");
        assert_eq!(then(&HELD, &[before, &[done(undo_again(1, 2))]].concat()), (then(&HELD, before).0, vec![]), "was never asked");
    }
    let unwinding = [&HELD[..5], &[Input::Unknown { to: undo(0) }, SKIP, PAUSE, done(undo(0)), RESUME]].concat();
    assert_eq!(
        (then(&unwinding, &[]).0.to_string().as_str(), then(&unwinding, &[]).1),
        ("B1,S1,R1,S0 closing cancelled", vec![CLOSE])
    );
    let never_asked = [Input::Started, refused(ask(0))];
    assert_eq!(then(&never_asked, &[done(undo(1))]), (play(&never_asked).0, vec![]), "what was skipped before it was asked");
}

#[test]
fn a_paused_saga_moves_but_asks_nothing_until_it_is_resumed() {
    let paused = [Input::Started, PAUSE];
    let (progress, asked) = then(&paused, &[done(ask(0))]);
    assert_eq!((progress.to_string(), asked), ("D1,A1,W0,W0 forward paused".to_owned(), vec![]));
    assert_eq!(then(&paused, &[done(ask(0)), Input::Deadline]), (progress, vec![]));
    let (progress, asked) = then(&paused, &[done(ask(0)), RESUME]);
    assert_eq!((progress.to_string(), asked), ("D1,A1,W0,W0 forward".to_owned(), vec![ask(1)]));
    assert_eq!(then(&paused, &[Input::Cancel]).1, []);
    assert_eq!(then(&paused, &[Input::Cancel, RESUME]).1, [undo(0)]);
    let stuck = [Input::Started, Input::Unknown { to: ask(0) }, PAUSE];
    assert_eq!(then(&stuck, &[RETRY]), (play(&paused).0, vec![]));
    assert_eq!(then(&stuck, &[RETRY, RESUME]).1, [ask(0)]);
}

#[test]
fn a_pause_leaves_budget_and_list_as_they_are() {
    let (progress, asked) = play(&[Input::Started, Input::Deadline, PAUSE, RESUME]);
    assert_eq!((progress.resent, asked), (1, vec![ask(0)]));
    let (progress, asked) = play(&[Input::Started, Input::Unknown { to: ask(0) }, PAUSE, RESUME]);
    assert_eq!((progress.state(), asked), (State::NeedsAttention, vec![ask(0)]));
    let (progress, _) = play(&[Input::Started, PAUSE]);
    assert_eq!(allowed(&progress), [Operation::Resume], "there is nothing that a retry could ask");
}

#[test]
fn nothing_is_done_to_what_is_over_or_has_not_begun() {
    assert_eq!(allowed(&play(&[]).0), [Operation::Pause]);
    for over in ["D1,D1,D1,D1 done", "R1,S0,S0,S0 undone refused=0", "D1,D1,D1,D1 done paused"] {
        let over: Progress = over.parse().unwrap();
        assert_eq!(allowed(&over), []);
        for input in [RETRY, SKIP, PAUSE, RESUME, Input::Deadline] {
            assert_eq!(next(&TRIP, over.clone(), input), (over.clone(), vec![]));
        }
    }
}
