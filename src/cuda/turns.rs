//! What repeats in a kernel, as loops: the stages and steps of a flow, or the layers of a deep network, become short text, which is
//! compiled in a moment and leaves room in the instruction cache of a processor.
//!
//! The text of an operation is a passage. Passages are alike where they differ only in places: values of the tile, tensors, offsets. A run of
//! passages whose like comes several times becomes the body of a loop; what stands before a run is done in the turns that it
//! stands there. Written out turn by turn, a loop is the text that it was made of, but for barriers that some turns do not need.

use super::emitter::Emitter;
use super::layout::Home;
use crate::jet::ValueId;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Lines that a loop must save. (A few lines compile in no time, and tables of places are not free.)
const WORTHWHILE: usize = 100;
/// Lines that a passage counts beside its own: what is around a call or a loop of threads.
const AROUND: usize = 4;
/// Lines that a case counts.
const CASE: usize = 6;
/// Passages of a kernel of which runs are looked for, at most: the time for it grows with the square.
const PASSAGES: usize = 4096;

/// Names for the loop variables, from the outermost on: there are no more loops in each other.
const VARIABLES: [&str; 4] = ["turn", "part", "section", "share"];

/// What may differ between passages that are alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Value(u32),
    Number(i64),
    Name(String),
}

/// The text of an operation, in one turn or in several.
#[derive(Clone, Debug, PartialEq)]
pub struct Passage {
    /// What is said of it: operations by turn, and what they are called.
    ops: Vec<usize>,
    title: &'static str,
    /// A barrier stands before it.
    barrier: bool,
    /// What is before, between and after the places.
    fixed: Vec<String>,
    /// By place, by turn.
    places: Vec<Vec<Place>>,
}

/// A loop.
#[derive(Clone, Debug, PartialEq)]
struct Turns {
    /// By turn: which of the cases comes before the body.
    case: Vec<Option<usize>>,
    cases: Vec<Vec<Node>>,
    body: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Passage(Passage),
    Turns(Turns),
}

impl Passage {
    /// From its text; `names` are tensors', which it reads.
    pub fn new(op: usize, title: &'static str, barrier: bool, text: &str, names: &BTreeSet<String>) -> Self {
        let mut passage = Passage { ops: vec![op], title, barrier, fixed: vec![String::new()], places: vec![] };
        for (token, before) in tokens(text) {
            match place(token, before, names) {
                Some(place) => {
                    passage.places.push(vec![place]);
                    passage.fixed.push(String::new());
                }
                None => passage.fixed.last_mut().into_iter().for_each(|last| last.push_str(token)),
            }
        }
        passage
    }

    fn cost(&self) -> usize {
        AROUND + self.fixed.iter().map(|f| f.matches('\n').count()).sum::<usize>()
    }
}

/// Words, numbers, and what is between, each with the text before it.
fn tokens(text: &str) -> Vec<(&str, &str)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(first) = text[start..].chars().next() {
        let rest = &text[start..];
        let kind = is_word(first);
        let length = rest.find(|c| is_word(c) != kind).unwrap_or(rest.len());
        tokens.push((&rest[..length], &text[..start]));
        start += length;
    }
    tokens
}

/// A number is a place where it cannot be an argument of a template, or the length of an array.
fn place(token: &str, before: &str, names: &BTreeSet<String>) -> Option<Place> {
    if let Some(value) = value(token) {
        return Some(Place::Value(value));
    }
    if before.ends_with(" + ") || before.ends_with("sums[") {
        return token.parse().ok().map(Place::Number);
    }
    names.contains(token).then(|| Place::Name(token.into()))
}

/// The value that a name means.
fn value(token: &str) -> Option<u32> {
    token.strip_prefix('v')?.parse().ok()
}

/// The values that a text names.
pub fn values(text: &str) -> BTreeSet<u32> {
    tokens(text).into_iter().filter_map(|t| value(t.0)).collect()
}

impl Node {
    fn passage(&self) -> Option<&Passage> {
        if let Node::Passage(passage) = self { Some(passage) } else { None }
    }

    fn turns(&self) -> Option<&Turns> {
        if let Node::Turns(turns) = self { Some(turns) } else { None }
    }

    /// The same for all that are alike.
    fn key(&self) -> String {
        let all = |nodes: &[Node]| nodes.iter().map(Node::key).collect::<String>();
        match self {
            Node::Passage(passage) => {
                let kind = |p: &Vec<Place>| match p[0] {
                    Place::Value(_) => "\u{1}",
                    Place::Number(_) => "\u{2}",
                    Place::Name(_) => "\u{3}",
                };
                let places = passage.places.iter().map(kind).chain(["\u{4}"]);
                let text = passage.fixed.iter().map(String::as_str).zip(places);
                passage.title.to_string() + &text.map(|(f, p)| format!("{f}{p}")).collect::<String>()
            }
            Node::Turns(turns) => {
                let cases: Vec<String> = turns.cases.iter().map(|c| all(c)).collect();
                format!("\u{5}{:?}{}\u{6}{}\u{7}", turns.case, cases.join("\u{6}"), all(&turns.body))
            }
        }
    }

    fn cost(&self) -> usize {
        let all = |nodes: &[Node]| nodes.iter().map(Node::cost).sum::<usize>();
        match self {
            Node::Passage(passage) => passage.cost(),
            Node::Turns(turns) => all(&turns.body) + turns.cases.iter().map(|c| CASE + all(c)).sum::<usize>(),
        }
    }

    /// Nodes that are alike as one, for a turn each, within `turns` turns of what is around.
    fn merge(nodes: &[&Node], turns: usize) -> Node {
        fn joined<T: Clone>(of: &[&[T]], turns: usize) -> Vec<T> {
            let each = of[0].len() / turns;
            (0..turns).flat_map(|t| of.iter().flat_map(move |v| v[t * each..(t + 1) * each].to_vec())).collect()
        }
        match nodes[0] {
            Node::Passage(first) => {
                let passages: Vec<&Passage> = nodes.iter().filter_map(|n| n.passage()).collect();
                let place =
                    |i: usize| joined(&passages.iter().map(|p| p.places[i].as_slice()).collect::<Vec<_>>(), turns);
                Node::Passage(Passage {
                    ops: joined(&passages.iter().map(|p| p.ops.as_slice()).collect::<Vec<_>>(), turns),
                    barrier: passages.iter().any(|p| p.barrier),
                    places: (0..first.places.len()).map(place).collect(),
                    ..first.clone()
                })
            }
            Node::Turns(first) => {
                let loops: Vec<&Turns> = nodes.iter().filter_map(|n| n.turns()).collect();
                let case =
                    |c: usize| merge_runs(&loops.iter().map(|t| t.cases[c].as_slice()).collect::<Vec<_>>(), turns);
                Node::Turns(Turns {
                    case: first.case.clone(),
                    cases: (0..first.cases.len()).map(case).collect(),
                    body: merge_runs(&loops.iter().map(|t| t.body.as_slice()).collect::<Vec<_>>(), turns),
                })
            }
        }
    }
}

fn merge_runs(runs: &[&[Node]], turns: usize) -> Vec<Node> {
    (0..runs[0].len()).map(|i| Node::merge(&runs.iter().map(|r| &r[i]).collect::<Vec<_>>(), turns)).collect()
}

/// A run of so many nodes, that starts at each of these.
struct Run {
    length: usize,
    starts: Vec<usize>,
}

/// Nodes with what repeats as loops, within `depth` loops that make `turns` turns.
fn roll(mut nodes: Vec<Node>, turns: usize, depth: usize) -> Vec<Node> {
    while let Some(run) = best(&nodes).filter(|_| depth < VARIABLES.len()) {
        let end = run.starts[run.starts.len() - 1] + run.length;
        let (mut case, mut cases) = (vec![None], Vec::<(String, Vec<(usize, &[Node])>)>::new());
        for (turn, pair) in run.starts.windows(2).enumerate() {
            let gap = &nodes[pair[0] + run.length..pair[1]];
            let key: String = gap.iter().map(Node::key).collect();
            let known = cases.iter().position(|c| c.0 == key);
            case.push((!gap.is_empty()).then(|| known.unwrap_or(cases.len())));
            match known {
                _ if gap.is_empty() => {}
                Some(c) => cases[c].1.push((turn + 1, gap)),
                None => cases.push((key, vec![(turn + 1, gap)])),
            }
        }
        let count = run.starts.len();
        // in the turns of other cases, any
        let all = |gaps: &[(usize, &[Node])]| {
            let at = |turn: usize| gaps.iter().find(|g| g.0 == turn).map_or(gaps[0].1, |g| g.1);
            merge_runs(&(0..count).map(at).collect::<Vec<_>>(), turns)
        };
        let bodies: Vec<&[Node]> = run.starts.iter().map(|s| &nodes[*s..s + run.length]).collect();
        let within = turns * count;
        let node = Node::Turns(Turns {
            case,
            cases: cases.iter().map(|c| roll(all(&c.1), within, depth + 1)).collect(),
            body: roll(merge_runs(&bodies, turns), within, depth + 1),
        });
        nodes.splice(run.starts[0]..end, [node]);
    }
    nodes
}

/// The run that saves most.
fn best(nodes: &[Node]) -> Option<Run> {
    let count = nodes.len();
    if count > PASSAGES {
        return None;
    }
    let mut classes = HashMap::new();
    let class: Vec<usize> = nodes
        .iter()
        .map(|n| {
            let next = classes.len();
            *classes.entry(n.key()).or_insert(next)
        })
        .collect();
    let mut before = vec![0];
    nodes.iter().for_each(|n| before.push(before[before.len() - 1] + n.cost()));
    let cost = |from: usize, to: usize| before[to] - before[from];
    let (mut found, mut most) = (None, WORTHWHILE - 1);
    // alike[j]: how many nodes from i and from j on are alike
    let mut alike = vec![0; count + 1];
    for i in (0..count).rev() {
        for j in 0..count {
            alike[j] = if class[i] == class[j] { 1 + alike[j + 1] } else { 0 };
        }
        let earlier = alike[..i].iter().max().copied().unwrap_or(0);
        let later: Vec<usize> = (i + 1..count).filter(|j| alike[*j] > earlier).collect();
        let lengths: BTreeSet<usize> = later.iter().flat_map(|j| [alike[*j], alike[*j].min(j - i)]).collect();
        for length in lengths.into_iter().filter(|l| *l > earlier) {
            let mut starts = vec![i];
            for j in &later {
                if alike[*j] >= length && *j >= starts[starts.len() - 1] + length {
                    starts.push(*j);
                }
            }
            let end = starts[starts.len() - 1] + length;
            let body = cost(i, i + length);
            // no gap costs less than nothing
            if starts.len() < 2 || cost(i, end) - body <= most {
                continue;
            }
            let gaps: BTreeMap<&[usize], usize> = starts
                .windows(2)
                .map(|s| (&class[s[0] + length..s[1]], CASE + cost(s[0] + length, s[1])))
                .filter(|g| !g.0.is_empty())
                .collect();
            let saved = cost(i, end).saturating_sub(body + gaps.values().sum::<usize>());
            if saved > most {
                (found, most) = (Some(Run { length, starts }), saved);
            }
        }
    }
    found
}

/// Type and expression of what differs between the turns of a loop.
type Known<'a> = BTreeMap<&'a [Place], (&'static str, String)>;

impl Emitter<'_> {
    /// Writes passages, those that repeat as loops.
    pub fn passages(&mut self, passages: Vec<Passage>) {
        let nodes = roll(passages.into_iter().map(Node::Passage).collect(), 1, 0);
        let mut next = 0;
        self.nodes(&nodes, &[], &Known::new(), &mut next);
    }

    fn nodes(&mut self, nodes: &[Node], around: &[usize], known: &Known<'_>, next: &mut usize) {
        for node in nodes {
            match node {
                Node::Passage(passage) => self.passage(passage, known, next),
                Node::Turns(turns) => self.turns(turns, around, next),
            }
        }
    }

    fn passage(&mut self, passage: &Passage, known: &Known<'_>, next: &mut usize) {
        if passage.barrier {
            self.line("__syncthreads();");
        }
        if !passage.title.is_empty() {
            let ops: Vec<String> =
                passage.ops.iter().collect::<BTreeSet<_>>().into_iter().map(|op| format!("%{op}")).collect();
            let ops = match &ops[..] {
                [first, second, .., last] if ops.len() > 4 => format!("{first}, {second} .. {last}"),
                ops => ops.join(", "),
            };
            self.line("");
            self.line(format!("// {ops} = {}", passage.title));
        }
        // declared here, not once for the loop, so that they need no registers in between; values that share their room are one
        let mut names: HashMap<&(&str, String), String> = HashMap::new();
        let mut text = passage.fixed[0].clone();
        for (place, fixed) in passage.places.iter().zip(&passage.fixed[1..]) {
            let Some(known) = known.get(place.as_slice()) else {
                text += &written(&place[0]);
                text += fixed;
                continue;
            };
            let name = names.entry(known).or_insert_with(|| {
                *next += 1;
                self.body.line(format!("{} const u{} = {};", known.0, *next - 1, known.1));
                format!("u{}", *next - 1)
            });
            text += name;
            text += fixed;
        }
        text.lines().for_each(|l| self.line(l.trim_start()));
    }

    /// A loop, within loops of so many turns.
    fn turns(&mut self, turns: &Turns, around: &[usize], next: &mut usize) {
        let count = turns.case.len();
        let variable = |depth: usize| VARIABLES[depth];
        let counts: Vec<usize> = around.iter().copied().chain([count]).collect();
        let at = (1..counts.len()).fold(variable(0).to_string(), |at, d| {
            let at = if at.contains(' ') { format!("({at})") } else { at };
            format!("{at} * {} + {}", counts[d], variable(d))
        });
        let all = counts.iter().product();
        // what differs between turns, each once
        let mut lists: Vec<&[Place]> = Vec::new();
        for node in turns.body.iter().chain(turns.cases.iter().flatten()) {
            for list in node.passage().into_iter().flat_map(|p| &p.places).map(Vec::as_slice) {
                if list.iter().any(|p| *p != list[0]) && !lists.contains(&list) {
                    lists.push(list);
                }
            }
        }
        let mut table =
            Table { at: at.clone(), linear: counts.len() == 1, columns: vec![], name: format!("turns_{next}") };
        *next += 1;
        let known: Known<'_> = lists.into_iter().map(|list| (list, self.place_by_turn(list, &mut table))).collect();
        let is_there = |turn: usize| turns.case[turn % count].map_or(0, |c| 1 + c as i64);
        let cases: Vec<i64> = (0..all).map(is_there).collect();
        let which = (!turns.cases.is_empty()).then(|| table.number(cases));
        self.line("");
        self.line("#pragma unroll 1");
        let v = variable(around.len());
        self.line(format!("for (int {v} = 0; {v} < {count}; ++{v}) {{"));
        let width = table.columns.len();
        if width > 0 {
            let elements: Vec<String> =
                (0..all).flat_map(|t| table.columns.iter().map(move |c| c[t].to_string())).collect();
            self.constant("int", &table.name, &elements);
            let at = if at.contains(' ') { format!("({at})") } else { at };
            self.line(format!("const int* const at = {} + {at} * {width};", table.name));
        }
        if let Some(which) = which {
            self.line(format!("switch ({which}) {{"));
            for (c, case) in turns.cases.iter().enumerate() {
                self.line(format!("case {}: {{", c + 1));
                self.nodes(case, &counts, &known, next);
                self.line("break;");
                self.line("}");
            }
            self.line("default: break;");
            self.line("}");
        }
        self.nodes(&turns.body, &counts, &known, next);
        self.line("}");
    }

    /// What a place is in each turn: type and expression.
    fn place_by_turn(&self, list: &[Place], table: &mut Table) -> (&'static str, String) {
        if let Some(numbers) = list.iter().map(number).collect::<Option<Vec<i64>>>() {
            return ("int", table.number(numbers));
        }
        // where it starts, and how far from there
        let start = |place: &Place| match place {
            Place::Value(v) => match self.layout.homes[*v as usize] {
                Home::Slot(slot) if self.layout.slots[slot].shared => "pad".into(),
                Home::Slot(_) => "room".into(),
                _ => written(place),
            },
            _ => written(place),
        };
        let is_ours = |start: &str| start == "pad" || start == "room";
        let starts: Vec<String> = list.iter().map(start).collect();
        let mut distinct: Vec<&String> = Vec::new();
        starts.iter().for_each(|s| {
            if !distinct.contains(&s) {
                distinct.push(s);
            }
        });
        let offset = if distinct.iter().any(|s| is_ours(s)) {
            format!(" + {}", table.number(list.iter().map(|p| self.offset(p)).collect()))
        } else {
            String::new()
        };
        let each: Vec<String> =
            distinct.iter().map(|s| if is_ours(s) { format!("{s}{offset}") } else { s.to_string() }).collect();
        let of = if each.len() == distinct.iter().filter(|s| is_ours(s)).count() { "real*" } else { "const real*" };
        let mut expression = each[each.len() - 1].clone();
        if each.len() > 1 {
            let which = starts.iter().map(|s| distinct.iter().position(|d| *d == s).unwrap_or(0) as i64).collect();
            let which = table.number(which);
            for (k, one) in each.iter().enumerate().rev().skip(1) {
                expression = format!("{which} == {k} ? {one} : {expression}");
            }
        }
        (of, expression)
    }

    /// Numbers from the start of its memory to a value of the tile.
    fn offset(&self, place: &Place) -> i64 {
        let Place::Value(v) = place else { return 0 };
        self.slot_start(ValueId(*v)) as i64
    }
}

fn number(place: &Place) -> Option<i64> {
    if let Place::Number(n) = place { Some(*n) } else { None }
}

fn written(place: &Place) -> String {
    match place {
        Place::Value(v) => format!("v{v}"),
        Place::Number(n) => n.to_string(),
        Place::Name(name) => name.clone(),
    }
}

/// Numbers by turn that follow no rule.
struct Table {
    name: String,
    /// The turn.
    at: String,
    /// One loop, whose turns are `turn`.
    linear: bool,
    columns: Vec<Vec<i64>>,
}

impl Table {
    /// An expression for numbers by turn.
    fn number(&mut self, numbers: Vec<i64>) -> String {
        let step = numbers.get(1).map_or(0, |n| n - numbers[0]);
        if numbers.iter().all(|n| *n == numbers[0]) {
            return numbers[0].to_string();
        }
        if self.linear && numbers.windows(2).all(|n| n[1] - n[0] == step) {
            let times = if step == 1 { self.at.clone() } else { format!("{step} * {}", self.at) };
            return if numbers[0] == 0 { times } else { format!("{} + {times}", numbers[0]) };
        }
        let column = self.columns.iter().position(|c| *c == numbers).unwrap_or_else(|| {
            self.columns.push(numbers);
            self.columns.len() - 1
        });
        format!("at[{column}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Passages of long texts: class, value, offset, whether there is a barrier.
    fn passages(of: &[(usize, u32, i64, bool)]) -> Vec<Passage> {
        let names = BTreeSet::from(["weight".to_string(), "bias".to_string()]);
        let one = |(op, (class, value, offset, barrier)): (usize, &(usize, u32, i64, bool))| {
            let name = if value % 2 == 0 { "weight" } else { "bias" };
            let lines = format!("v0[{class}] += v{value}[e + {offset}] * {name}[e];\n").repeat(20);
            Passage::new(op, "sum", *barrier, &lines, &names)
        };
        of.iter().enumerate().map(one).collect()
    }

    /// What loops do, one after the other.
    fn written_out(nodes: &[Node], turn: usize, out: &mut Vec<Passage>) {
        for node in nodes {
            match node {
                Node::Passage(passage) => {
                    let places = passage.places.iter().map(|p| vec![p[turn].clone()]).collect();
                    out.push(Passage { ops: vec![passage.ops[turn]], places, ..passage.clone() });
                }
                Node::Turns(turns) => {
                    for (k, case) in turns.case.iter().enumerate() {
                        let turn = turn * turns.case.len() + k;
                        case.iter().for_each(|c| written_out(&turns.cases[*c], turn, out));
                        written_out(&turns.body, turn, out);
                    }
                }
            }
        }
    }

    fn rolled(all: &[Passage]) -> Vec<Node> {
        roll(all.iter().cloned().map(Node::Passage).collect(), 1, 0)
    }

    #[test]
    fn a_run_with_something_before_it_in_some_turns() {
        let stage = |k: u32, first: usize| [(first, k, 0, true), (1, k, i64::from(k), false), (2, k, 0, false)];
        let all = passages(&[stage(5, 0), stage(6, 3), stage(7, 3), stage(8, 4)].concat());
        let nodes = rolled(&all);
        let [Node::Passage(_), Node::Turns(turns)] = &nodes[..] else { panic!("{nodes:?}") };
        assert_eq!(turns.case, [None, Some(0), Some(0), Some(1)]);
        assert_eq!((turns.body.len(), turns.cases.len()), (2, 2));
        let Node::Passage(sum) = &turns.body[0] else { panic!("{turns:?}") };
        assert_eq!(sum.places[2], [5, 6, 7, 8].map(Place::Number));
        // arguments of templates, lengths of arrays and other names do not vary
        let text = |k: usize| format!("layer<{k}>(v3, other{k});\nreal x[{k}];\n").repeat(30);
        let all: Vec<Passage> = (0..9).map(|k| Passage::new(k, "linear", false, &text(k), &BTreeSet::new())).collect();
        assert_eq!(rolled(&all).len(), 9);
    }

    proptest! {
        /// Written out turn by turn, loops are the passages that they were made of.
        #[test]
        fn loops_are_what_they_were_made_of(
            parts in prop::collection::vec((0usize..3, 1usize..5), 1..12),
            runs in prop::collection::vec(prop::collection::vec((0usize..4, 0u32..3, 0i64..3, any::<bool>()), 1..5), 3),
        ) {
            let mut all = Vec::new();
            for (part, times) in parts {
                for k in 0..times {
                    // the same run with other places
                    all.extend(runs[part].iter().map(|(c, v, o, b)| (*c, v + 2 * k as u32, o * k as i64, *b)));
                }
            }
            let all = passages(&all);
            let nodes = rolled(&all);
            let mut found = Vec::new();
            written_out(&nodes, 0, &mut found);
            prop_assert_eq!(found.len(), all.len());
            for (found, passage) in found.iter().zip(&all) {
                prop_assert!(found.barrier || !passage.barrier);
                prop_assert_eq!(&Passage { barrier: passage.barrier, ..found.clone() }, passage);
            }
            // none is left that would be worth a loop
            prop_assert!(best(&nodes).is_none());
        }
    }
}
