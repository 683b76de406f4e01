//! The rules, one table per topic.
//!
//! A rule looks at one form and returns classes with the same value. Rules about rules:
//!
//! - Each has a direction: towards fewer rows, fewer flops, or a form in which other rules apply. The opposite of a
//!   rule is a rule of its own, and if it makes derivatives out of values it is [`Use::Proof`]: it can show that two
//!   residuals are equal, but extraction has no use for it.
//! - No rule permutes: order is in the form.
//! - A rule holds wherever its left side is a number. It may turn an undefined value into a number (x/x at x = 0, as
//!   the graph does), never a number into another number. Conditions on signs come from [`super::facts`].
//! - Nothing crosses a reduction whose variable it may depend on.
//! - An instance of each rule, and cases that must not hold, are in `tests.rs`.

mod arithmetic;
mod derivatives;
mod functions;
mod strength;
mod sums;

use super::build::Build;
use super::facts::{Classes, Facts};
use super::language::Form;
use egg::{Applier, Id, Language, PatternAst, Rewrite, SearchMatches, Searcher, Subst, Var};

/// A rule.
pub struct Rule {
    /// Its name in explanations.
    pub name: &'static str,
    /// What it says.
    pub algebra: &'static str,
    /// Which forms it looks at.
    pub on: On,
    /// What it is for.
    pub used: Use,
    /// Classes equal to a form.
    pub apply: fn(&mut Build, &Form) -> Vec<Id>,
}

/// Kinds of forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Parameters, columns, atoms.
    Leaf,
    /// Sums of terms.
    Add,
    /// Products.
    Mul,
    /// Real powers.
    Power,
    /// Functions.
    Call,
    /// Reductions.
    Reduce,
    /// Derivatives.
    D,
}

/// What a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// To find cheaper forms, and in proofs.
    Rewriting,
    /// In proofs only.
    Proof,
}

const fn rule(name: &'static str, on: On, algebra: &'static str, apply: fn(&mut Build, &Form) -> Vec<Id>) -> Rule {
    Rule { name, algebra, on, used: Use::Rewriting, apply }
}

const fn proof(name: &'static str, on: On, algebra: &'static str, apply: fn(&mut Build, &Form) -> Vec<Id>) -> Rule {
    Rule { name, algebra, on, used: Use::Proof, apply }
}

/// All rules, in the order in which they are applied.
pub fn table() -> impl Iterator<Item = &'static Rule> {
    [derivatives::RULES, sums::RULES, arithmetic::RULES, functions::RULES, strength::RULES].into_iter().flatten()
}

/// Some of the rules, for egg.
pub fn rewrites(wanted: impl Fn(&Rule) -> bool) -> Vec<Rewrite<Form, Facts>> {
    table()
        .filter(|r| wanted(r))
        .map(|r| Rewrite::new(r.name, Matching(r.on), Applying(r)).expect("rules bind no variables"))
        .collect()
}

impl On {
    fn accepts(self, form: &Form) -> bool {
        match form {
            Form::Num(_) => false,
            Form::Leaf(_) => self == On::Leaf,
            Form::Add(..) => self == On::Add,
            Form::Mul(..) => self == On::Mul,
            Form::Power(_) => self == On::Power,
            Form::Call(..) => self == On::Call,
            Form::Reduce(..) => self == On::Reduce,
            Form::D(..) => self == On::D,
        }
    }
}

/// Finds the classes that hold a form of a kind.
struct Matching(On);

impl Searcher<Form, Facts> for Matching {
    fn search_eclass_with_limit(&self, egraph: &Classes, class: Id, limit: usize) -> Option<SearchMatches<'_, Form>> {
        let class = &egraph[class];
        // a number has nothing to gain
        let number = class.nodes.iter().any(|f| matches!(f, Form::Num(_)));
        let found = limit > 0 && !number && class.nodes.iter().any(|f| self.0.accepts(f));
        found.then(|| SearchMatches { eclass: class.id, substs: vec![Subst::default()], ast: None })
    }

    fn vars(&self) -> Vec<Var> {
        Vec::new()
    }
}

/// In one class a rule looks at this many forms, the shortest: a long sum has hundreds of partly factored ones.
const MAX_FORMS: usize = 24;

/// Applies a rule to the forms of a class that it looks at.
struct Applying(&'static Rule);

impl Applier<Form, Facts> for Applying {
    fn apply_one(
        &self,
        egraph: &mut Classes,
        class: Id,
        _: &Subst,
        _: Option<&PatternAst<Form>>,
        name: egg::Symbol,
    ) -> Vec<Id> {
        let mut forms: Vec<Form> = egraph[class].nodes.iter().filter(|f| self.0.on.accepts(f)).cloned().collect();
        forms.sort_by_key(|f| f.len());
        forms.truncate(MAX_FORMS);
        let mut changed = Vec::new();
        for form in forms {
            if egraph.total_size() > egraph.analysis.node_limit {
                break;
            }
            // rules may have merged its children since the last rebuild
            let form = form.map_children(|c| egraph.find(c));
            // calls are few, and their rules also look elsewhere
            if self.0.on != On::Call && !egraph.analysis.first_time(self.0.name, &form, &sizes(egraph, &form)) {
                continue;
            }
            let equal = (self.0.apply)(&mut Build { egraph }, &form);
            let from = egraph.add_uncanonical(form);
            for to in equal {
                if egraph.union_trusted(from, to, name) {
                    changed.push(to);
                }
            }
        }
        changed
    }
}

/// Numbers of forms of the children: a rule that saw a form with children of these sizes has nothing new to say.
fn sizes(egraph: &Classes, form: &Form) -> Vec<usize> {
    form.children().iter().map(|c| egraph[*c].nodes.len()).collect()
}
