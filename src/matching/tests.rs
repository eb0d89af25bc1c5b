//! The engine alone: what is found, in which order, and what is not known yet.

use std::collections::HashMap;

use super::*;
use crate::config::model::{Branches, Cidr, HeadField, InputMatch, MatchTree, OnMatch, Predicate, Ranges, StringMatch};

/// Query parameters stand for inputs; one that is `?` is not known yet.
struct Given(HashMap<&'static str, &'static str>);

impl Inputs for Given {
    fn get<'a>(&'a self, input: &'a MatchInput) -> Input<'a> {
        let MatchInput::Query(name) = input else { return Input::Absent };
        match self.0.get(name.as_str()) {
            Some(&"?") => Input::Later,
            Some(text) => Input::Text(text.as_bytes().into()),
            None => Input::Absent,
        }
    }
}

type Model = MatchTree<&'static str>;

fn input(name: &str) -> MatchInput {
    MatchInput::Query(name.to_owned())
}

fn act(action: &'static str) -> OnMatch<&'static str> {
    OnMatch::Act(action)
}

fn nested(tree: Model) -> OnMatch<&'static str> {
    OnMatch::Match(Box::new(tree))
}

fn is(name: &str, value: &str) -> Predicate {
    Predicate::Input(input(name), InputMatch::Text(StringMatch::exact(value)))
}

fn list(list: Vec<(Predicate, OnMatch<&'static str>)>, otherwise: Option<OnMatch<&'static str>>) -> Model {
    MatchTree { branches: Branches::List(list), otherwise }
}

fn found(model: &Model, given: &[(&'static str, &'static str)]) -> Match<&'static str> {
    let tree = Tree::compile(model, &mut |action| Ok::<_, ()>(*action)).unwrap();
    match tree.find(&Given(given.iter().copied().collect())) {
        Match::Found(action) => Match::Found(*action),
        Match::None => Match::None,
        Match::NotYet => Match::NotYet,
    }
}

#[test]
fn the_first_of_a_list_wins_and_else_what_is_said_for_that() {
    let model = list(vec![(is("a", "1"), act("one")), (is("b", "1"), act("two"))], Some(act("else")));
    assert_eq!(found(&model, &[("a", "1"), ("b", "1")]), Match::Found("one"));
    assert_eq!(found(&model, &[("b", "1")]), Match::Found("two"));
    assert_eq!(found(&model, &[]), Match::Found("else"));
    assert_eq!(found(&model, &[("a", "?"), ("b", "1")]), Match::NotYet);
    assert_eq!(found(&list(vec![], None), &[]), Match::None);
}

#[test]
fn a_nested_tree_that_says_nothing_lets_the_search_go_on() {
    let inner = list(vec![(is("b", "1"), act("inner"))], None);
    let model = list(vec![(is("a", "1"), nested(inner)), (is("a", "1"), act("second"))], None);
    assert_eq!(found(&model, &[("a", "1"), ("b", "1")]), Match::Found("inner"));
    assert_eq!(found(&model, &[("a", "1")]), Match::Found("second"));
    assert_eq!(found(&model, &[("a", "1"), ("b", "?")]), Match::NotYet);
}

#[test]
fn predicates_have_three_values() {
    let (yes, no, later) = (is("y", "1"), is("n", "1"), is("l", "1"));
    let given = [("y", "1"), ("l", "?")];
    let holds = |predicate: Predicate| found(&list(vec![(predicate, act("it"))], None), &given);
    let (it, none, not_yet) = (Match::Found("it"), Match::None, Match::NotYet);
    let any = |all: &[&Predicate]| Predicate::Any(all.iter().map(|one| (*one).clone()).collect());
    let all = |all: &[&Predicate]| Predicate::All(all.iter().map(|one| (*one).clone()).collect());
    let not = |one: &Predicate| Predicate::Not(Box::new(one.clone()));
    assert_eq!([holds(any(&[&no, &yes])), holds(any(&[&later, &yes])), holds(any(&[&no, &later]))], [it, it, not_yet]);
    assert_eq!(
        [holds(all(&[&yes, &yes])), holds(all(&[&no, &later])), holds(all(&[&yes, &later]))],
        [it, none, not_yet]
    );
    assert_eq!([holds(not(&no)), holds(not(&yes)), holds(not(&later))], [it, none, not_yet]);
    assert_eq!(holds(not(&is("absent", "1"))), it);
}

#[test]
fn maps_find_the_key_or_the_longest_beginning() {
    let key = |text: &str, action| (text.to_owned(), act(action));
    let exact = MatchTree {
        branches: Branches::Exact(input("a"), vec![key("one", "1"), key("two", "2")]),
        otherwise: Some(act("else")),
    };
    assert_eq!(found(&exact, &[("a", "two")]), Match::Found("2"));
    assert_eq!(found(&exact, &[("a", "tw")]), Match::Found("else"));
    assert_eq!(found(&exact, &[]), Match::Found("else"));
    assert_eq!(found(&exact, &[("a", "?")]), Match::NotYet);
    let inner = list(vec![(is("b", "1"), act("inner"))], None);
    let prefix = MatchTree {
        branches: Branches::Prefix(
            input("a"),
            vec![key("", "root"), key("/a", "a"), key("/a/b", "ab"), key("/b", "b"), ("/a/b/c".into(), nested(inner))],
        ),
        otherwise: None,
    };
    let asked = |text| found(&prefix, &[("a", text)]);
    assert_eq!(
        [asked("/a/x"), asked("/a/b"), asked("/a/bc")],
        [Match::Found("a"), Match::Found("ab"), Match::Found("ab")]
    );
    assert_eq!(
        [asked("/c"), asked("x"), asked("/b/a")],
        [Match::Found("root"), Match::Found("root"), Match::Found("b")]
    );
    assert_eq!(asked("/a/b/c/d"), Match::Found("ab"), "the longest has nothing to say");
    assert_eq!(found(&prefix, &[("a", "/a/b/c"), ("b", "1")]), Match::Found("inner"));
}

#[test]
fn ranges_are_tried_from_the_smallest_on() {
    let cidr = |network: &str, prefix| Cidr { network: network.parse().unwrap(), prefix };
    let ranges = |ranges: Vec<Cidr>, then, exclusive| Ranges { ranges, then, exclusive };
    let never = || nested(list(vec![], None));
    let model = MatchTree {
        branches: Branches::Ranges(
            input("a"),
            vec![
                ranges(vec![cidr("0.0.0.0", 0)], act("all"), false),
                ranges(vec![cidr("10.0.0.0", 8)], act("ten"), true),
                ranges(vec![cidr("10.1.0.0", 16)], never(), false),
                ranges(vec![cidr("10.2.0.0", 16), cidr("fe80::", 10)], act("two"), false),
                ranges(vec![cidr("10.2.3.4", 32), cidr("::1", 128)], act("one"), false),
            ],
        ),
        otherwise: Some(act("else")),
    };
    let asked = |text| match found(&model, &[("a", text)]) {
        Match::Found(action) => action,
        _ => "none",
    };
    assert_eq!(["10.9.9.9", "10.2.9.9", "10.2.3.4", "9.9.9.9"].map(asked), ["ten", "two", "one", "all"]);
    assert_eq!(asked("10.1.2.3"), "all", "the exclusive one was not the smallest");
    assert_eq!(["fe80::1", "::1", "::2", "no address"].map(asked), ["two", "one", "else", "else"]);
}

#[test]
fn names_are_tried_from_the_most_specific_on() {
    let names = |names: &[&str], then| (names.iter().map(|name| (*name).to_owned()).collect(), then);
    let model = MatchTree {
        branches: Branches::Names(
            input("a"),
            vec![
                names(&["a.example.com", "b.test"], act("exact")),
                names(&["*.example.com"], act("under")),
                names(&["*.com"], act("com")),
                names(&["*"], act("any")),
            ],
        ),
        otherwise: None,
    };
    let asked = |text| match found(&model, &[("a", text)]) {
        Match::Found(action) => action,
        _ => "none",
    };
    assert_eq!(["a.example.com", "b.test", "x.y.example.com"].map(asked), ["exact", "exact", "under"]);
    assert_eq!(asked("A.example.com"), "under", "case counts");
    assert_eq!(["example.com", "com", ".com"].map(asked), ["com", "any", "any"]);
}

#[test]
fn other_questions_to_an_input() {
    let asks = |wanted: InputMatch, text| {
        found(&list(vec![(Predicate::Input(input("a"), wanted), act("it"))], None), &[("a", text)])
            == Match::Found("it")
    };
    let within = || InputMatch::Ip(vec![Cidr { network: "10.0.0.0".parse().unwrap(), prefix: 8 }]);
    assert!(asks(within(), "10.1.1.1") && !asks(within(), "11.1.1.1") && !asks(within(), "x"));
    let hash = |threshold| InputMatch::Hash { threshold, modulo: 100, seed: 1 };
    assert!(asks(hash(0), "x") && !asks(hash(100), "x"));
    let field = MatchInput::RequestHeader(HeadField::Path);
    assert!(!field.is_of_response() && MatchInput::Status.is_of_response());
}
