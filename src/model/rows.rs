//! The rows of a participant: every state it gets into, and what it does in each about what it hears, decided once.

use std::{collections::HashMap, hash::Hash};

use super::{
    Model,
    messages::{Message, Place, Post, Sent, What},
};

/// Somebody who is in a state, hears something, is in another then, and says something.
pub(super) trait Participant: Clone + Eq + Hash {
    fn hear(&self, model: &Model, what: What) -> Heard<Self>;

    /// How it stands, in words.
    fn told(&self) -> String;
}

pub(super) struct Heard<S> {
    pub(super) after: S,
    pub(super) says: Vec<Message>,
    /// What is wrong with it by itself.
    pub(super) flaw: Option<&'static str>,
}

impl<S> Heard<S> {
    pub(super) fn says(after: S, says: impl IntoIterator<Item = Message>) -> Self {
        Self { after, says: says.into_iter().collect(), flaw: None }
    }

    pub(super) fn with_flaw(self, flaw: Option<&'static str>) -> Self {
        Self { flaw: self.flaw.or(flaw), ..self }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Turn {
    pub(super) to: u32,
    pub(super) says: Sent,
    pub(super) flaw: Option<&'static str>,
}

const NO_ROOM: &str = "there is room for every message";

pub(super) struct Rows<S> {
    all: Vec<S>,
    places: HashMap<S, u32>,
    /// By state, and by what is heard.
    turns: Vec<Vec<Option<Turn>>>,
}

impl<S: Participant> Rows<S> {
    pub(super) fn from(first: S) -> Self {
        let mut rows = Self { all: Vec::new(), places: HashMap::new(), turns: Vec::new() };
        rows.place(first);
        rows
    }

    pub(super) fn get(&self, at: u32) -> &S {
        &self.all[index(at)]
    }

    pub(super) fn hear(&mut self, model: &Model, post: &mut Post, at: u32, place: Place) -> Turn {
        if let Some(Some(turn)) = self.turns[index(at)].get(usize::from(place)) {
            return *turn;
        }
        let Heard { after, says, mut flaw } = self.get(at).hear(model, post.what(place));
        let mut sent = Sent::default();
        for message in says {
            match post.place(&model.definition, message) {
                Some(place) => sent.add(place),
                None => flaw = flaw.or(Some(NO_ROOM)),
            }
        }
        let turn = Turn { to: self.place(after), says: sent, flaw };
        let turns = &mut self.turns[index(at)];
        if turns.len() <= usize::from(place) {
            turns.resize(usize::from(place) + 1, None);
        }
        turns[usize::from(place)] = Some(turn);
        turn
    }

    fn place(&mut self, row: S) -> u32 {
        if let Some(place) = self.places.get(&row) {
            return *place;
        }
        let place = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push(row.clone());
        self.turns.push(Vec::new());
        self.places.insert(row, place);
        place
    }
}

fn index(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}
