//! The tree, and the search in it.

use std::collections::HashMap;
use std::net::IpAddr;

use super::names::Names;
use super::predicate::Asked;
use super::prefixes::Prefixes;
use super::ranges::Ranges;
use super::{Input, Inputs, Match};
use crate::config::model;

/// A tree ready to be asked, with actions of the caller's own.
#[derive(Debug)]
pub struct Tree<A> {
    branches: Branches<A>,
    otherwise: Option<Then<A>>,
}

#[derive(Debug)]
enum Branches<A> {
    List(Vec<(Asked, Then<A>)>),
    Exact(model::MatchInput, HashMap<Box<[u8]>, Then<A>>),
    Prefix(model::MatchInput, Prefixes<Then<A>>),
    Ranges(model::MatchInput, Ranges<Then<A>>),
    Names(model::MatchInput, Names<Then<A>>),
}

#[derive(Debug)]
enum Then<A> {
    Act(A),
    Match(Box<Tree<A>>),
}

impl<A> Tree<A> {
    /// Makes a tree ready; `make` makes the actions, in the order of the model.
    ///
    /// # Errors
    /// The first of `make`.
    pub fn compile<M, E>(model: &model::MatchTree<M>, make: &mut dyn FnMut(&M) -> Result<A, E>) -> Result<Self, E> {
        use model::Branches as Model;
        let branches = match &model.branches {
            Model::List(list) => {
                let compile = |(predicate, then): &(_, _)| Ok((Asked::compile(predicate), Then::compile(then, make)?));
                Branches::List(list.iter().map(compile).collect::<Result<_, E>>()?)
            }
            Model::Exact(input, map) => {
                let compile = |(key, then): &(String, _)| Ok((key.as_bytes().into(), Then::compile(then, make)?));
                Branches::Exact(input.clone(), map.iter().map(compile).collect::<Result<_, E>>()?)
            }
            Model::Prefix(input, map) => {
                let compile = |(key, then): &(String, _)| Ok((key.as_bytes().into(), Then::compile(then, make)?));
                let map: Vec<_> = map.iter().map(compile).collect::<Result<_, E>>()?;
                Branches::Prefix(input.clone(), Prefixes::new(map))
            }
            Model::Ranges(input, ranges) => {
                let compile =
                    |one: &model::Ranges<M>| Ok((one.ranges.clone(), one.exclusive, Then::compile(&one.then, make)?));
                let ranges: Vec<_> = ranges.iter().map(compile).collect::<Result<_, E>>()?;
                Branches::Ranges(input.clone(), Ranges::new(ranges))
            }
            Model::Names(input, names) => {
                let compile = |(names, then): &(Vec<String>, _)| Ok((names.clone(), Then::compile(then, make)?));
                let names: Vec<_> = names.iter().map(compile).collect::<Result<_, E>>()?;
                Branches::Names(input.clone(), Names::new(names))
            }
        };
        let otherwise = model.otherwise.as_ref().map(|then| Then::compile(then, make)).transpose()?;
        Ok(Self { branches, otherwise })
    }

    /// What the tree says.
    pub fn find<'t>(&'t self, inputs: &dyn Inputs) -> Match<&'t A> {
        let found = match &self.branches {
            Branches::List(list) => Self::first(list, inputs),
            Branches::Exact(input, map) => text(inputs.get(input), |text| match map.get(text) {
                Some(then) => then.follow(inputs),
                None => Match::None,
            }),
            Branches::Prefix(input, map) => {
                text(inputs.get(input), |text| until_found(map.of(text).map(|then| then.follow(inputs))))
            }
            Branches::Ranges(input, ranges) => text(inputs.get(input), |text| {
                let address = std::str::from_utf8(text).ok().and_then(|text| text.parse::<IpAddr>().ok());
                let Some(address) = address else { return Match::None };
                until_found(ranges.of(address).map(|then| then.follow(inputs)))
            }),
            Branches::Names(input, names) => {
                text(inputs.get(input), |text| until_found(names.of(text).map(|then| then.follow(inputs))))
            }
        };
        match (found, &self.otherwise) {
            (Match::None, Some(then)) => then.follow(inputs),
            (found, _) => found,
        }
    }

    fn first<'t>(list: &'t [(Asked, Then<A>)], inputs: &dyn Inputs) -> Match<&'t A> {
        for (predicate, then) in list {
            match predicate.holds(inputs) {
                None => return Match::NotYet,
                Some(false) => {}
                Some(true) => match then.follow(inputs) {
                    Match::None => {}
                    found => return found,
                },
            }
        }
        Match::None
    }
}

impl<A> Then<A> {
    fn compile<M, E>(model: &model::OnMatch<M>, make: &mut dyn FnMut(&M) -> Result<A, E>) -> Result<Self, E> {
        Ok(match model {
            model::OnMatch::Act(action) => Self::Act(make(action)?),
            model::OnMatch::Match(tree) => Self::Match(Box::new(Tree::compile(tree, make)?)),
        })
    }

    fn follow<'t>(&'t self, inputs: &dyn Inputs) -> Match<&'t A> {
        match self {
            Self::Act(action) => Match::Found(action),
            Self::Match(tree) => tree.find(inputs),
        }
    }
}

/// Goes on with a text; where there is none, nothing has matched.
fn text<T>(input: Input<'_>, go_on: impl FnOnce(&[u8]) -> Match<T>) -> Match<T> {
    match input {
        Input::Text(text) => go_on(&text),
        Input::Value(_) | Input::Absent => Match::None,
        Input::Later => Match::NotYet,
    }
}

fn until_found<T>(mut candidates: impl Iterator<Item = Match<T>>) -> Match<T> {
    candidates.find(|found| !matches!(found, Match::None)).unwrap_or(Match::None)
}
