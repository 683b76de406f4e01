//! The reference lists what the compiler knows, all of it and nothing else.
//!
//! A list of the page is a table after `<!-- words: NAME -->`. What the compiler knows is asked of the compiler: of its grammar,
//! of its tables, or of its own message when it meets a word that it does not know (`zzz`).

use crate::page::Page;
use crate::root;
use jetc::program::{Activation, FUNCTIONS, OPERATORS, Overrides};
use jetc::solver::compile;
use std::collections::{BTreeMap, BTreeSet};

/// A list, and a program with a word `zzz` where one of the list could stand.
const QUESTIONS: [(&str, &str); 25] = [
    ("statements", "zzz"),
    ("bounded domains", "space x in zzz(1)"),
    ("distributions of points", "space x from zzz()"),
    ("ball options", "space x in ball(zzz = 1)"),
    ("ball measures", "space x in ball(measure = zzz)"),
    ("brownian options", "time t\nspace x from brownian(zzz = 1)"),
    ("distributions of coefficients", "coef c[3] ~ zzz()"),
    ("normal options", "coef c[3] ~ normal(zzz = 1)"),
    ("uniform options", "coef c[3] ~ uniform(zzz = 1)"),
    ("architectures", "net N = zzz()"),
    ("network options", "net N = mlp(width = 8, depth = 3, activation = tanh, zzz = 1)"),
    ("gradient options", "space x\nnet N = mlp(width = 8, depth = 3, activation = tanh)\nsolve a: N(x) = 0 enhance gradient(zzz = 1)"),
    ("estimators", "estimate lap(N(x)) by zzz(1)"),
    ("sparse options", "estimate lap(N(x)) by sparse(1, zzz = 1)"),
    ("optimizers", "train zzz()"),
    ("adam options", "train adam(zzz = 1)"),
    ("schedules", "train adam(decay = zzz)"),
    ("train options", "train adam(), zzz = 1"),
    ("reports", "report zzz(u)"),
    ("report options", "report value(1), zzz = 1"),
    ("integrators", "state s\nflow d_t(s) = s by zzz()"),
    ("taylor options", "state s\nflow d_t(s) = s by taylor(zzz = 1)"),
    ("taylor_lagrange options", "state s\nflow d_t(s) = s by taylor_lagrange(zzz = 1)"),
    ("fit options", "state s\ndata a = \"a.csv\"\nflow d_t(s) = s by taylor()\nfit flow to a, zzz = 1"),
    ("rollout options", "data a = \"a.csv\"\nstate s\nflow d_t(s) = s by taylor()\nreport rollout(a, zzz = 1)"),
];

/// The words that the compiler offers instead of `zzz`.
fn offered(name: &str, program: &str) -> BTreeSet<String> {
    let (_, diagnostics) = compile(program, &Overrides::default());
    let about = diagnostics.iter().filter(|d| d.message.contains("`zzz`"));
    let notes: Vec<&str> = about.flat_map(|d| &d.notes).map(String::as_str).collect();
    let offers = ["choose from ", "choose ", "it has ", "statements begin with "];
    let note = notes.iter().find(|note| offers.iter().any(|o| note.starts_with(o)));
    let note = note.unwrap_or_else(|| panic!("{name}: the compiler offers nothing instead of `zzz`: {diagnostics:?}"));
    note.split('`').skip(1).step_by(2).map(bare).collect()
}

/// `sparse(k)` is the word `sparse`; a bracket is itself.
fn bare(word: &str) -> String {
    word.split_once('(').map_or(word, |(name, _)| if name.is_empty() { word } else { name }).trim().to_string()
}

/// The terminals of the grammar that stand for themselves.
fn terminals() -> BTreeSet<String> {
    let grammar = std::fs::read_to_string(root().join("grammar/jet.lalrpop")).unwrap();
    let table = grammar.split("enum Kind {").nth(1).and_then(|rest| rest.split('}').next()).unwrap();
    table.lines().filter_map(|line| line.trim().strip_prefix('"')?.split('"').next()).map(str::to_string).collect()
}

#[test]
fn the_lists_of_the_reference_are_those_of_the_compiler() {
    let set = |words: &mut dyn Iterator<Item = &str>| words.map(str::to_string).collect::<BTreeSet<_>>();
    let mut known: BTreeMap<&str, BTreeSet<String>> = QUESTIONS.map(|(name, program)| (name, offered(name, program))).into();
    let is_word = |t: &String| t.starts_with(|c: char| c.is_ascii_alphabetic());
    let (words, symbols): (BTreeSet<String>, BTreeSet<String>) = terminals().into_iter().partition(is_word);
    assert!(words.is_superset(&known["statements"]) && symbols.contains(".."));
    known.insert("clause words", words.difference(&known["statements"]).cloned().collect());
    known.insert("symbols", symbols);
    known.insert("functions", set(&mut FUNCTIONS.iter().map(|(name, _)| *name)));
    known.insert("operators", set(&mut OPERATORS.into_iter()));
    known.insert("activations", set(&mut Activation::NAMES.iter().map(|(name, _)| *name)));

    let page = Page::read(&root().join("docs/src/language.md"));
    let mut wrong = Vec::new();
    for list in &page.lists {
        let place = page.place(list.line);
        let Some(words) = known.remove(list.name.as_str()) else {
            wrong.push(format!("{place}: nobody knows what `{}` should list", list.name));
            continue;
        };
        let listed: BTreeSet<String> = list.words.iter().map(|w| bare(w)).collect();
        let missing: Vec<_> = words.difference(&listed).collect();
        let unknown: Vec<_> = listed.difference(&words).collect();
        if !missing.is_empty() || !unknown.is_empty() {
            wrong.push(format!("{place}: {}: missing {missing:?}, unknown to the compiler {unknown:?}", list.name));
        }
    }
    wrong.extend(known.keys().map(|name| format!("{}: no table after <!-- words: {name} -->", page.path.display())));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
