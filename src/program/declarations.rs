//! Declarations: values, coordinates and where they live, parameters, coefficients, networks.

use super::arguments::{CallRef, Sign};
use super::names::Declared;
use super::order::Node;
use super::resolver::Resolver;
use super::types::*;
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::{self, Ast, ItemKind};

impl<'a> Resolver<'a> {
    /// Resolves all declarations in this order; the coordinates are laid out as soon as they are known.
    pub fn define_all(&mut self, order: &[Node]) {
        let group = |node: &Node| match *node {
            Node::Symbol(i) => matches!(self.symbols[i].declared, Declared::Group(..)),
            Node::Operator(_) => false,
        };
        let groups_end = order.iter().rposition(group).map_or(0, |last| last + 1);
        order[..groups_end].iter().for_each(|node| self.define(*node));
        self.lay_out();
        order[groups_end..].iter().for_each(|node| self.define(*node));
    }

    fn lay_out(&mut self) {
        let mut first = 0;
        for group in &mut self.program.groups {
            group.first = first;
            first += group.len;
        }
        let lost = |declared, sound: bool| matches!(declared, Declared::Group(..)) && !sound;
        self.space_sound = !self.symbols.values().any(|symbol| lost(symbol.declared, symbol.sound));
        self.space_known = true;
    }

    fn define(&mut self, node: Node) {
        let Node::Symbol(i) = node else { return };
        let Some((name, symbol)) = self.symbols.get_index(i) else {
            return;
        };
        let (name, span, declared) = (*name, symbol.span, symbol.declared);
        let mut value = None;
        let sound = match declared {
            Declared::Const(given) => {
                value = self.set_or(i, name, span, given, |this, expr| {
                    let id = this.expr(expr)?;
                    this.check_constant(id, expr.span, "a const").map(|()| id)
                });
                value.is_some()
            }
            Declared::Field(expr) | Declared::Let(expr) => {
                value = self.expr(expr);
                value.is_some()
            }
            Declared::Param(id, given) => {
                let log = self.program.params[id.index()].learn == Learning::Log;
                let sign = if log { Sign::Positive } else { Sign::Any };
                let number = self.set_or(i, name, span, given, |this, expr| this.real(expr, "a parameter", sign));
                self.program.params[id.index()].value = number.unwrap_or(1.0);
                // Its value matters to nothing else here: mentions are fine.
                true
            }
            Declared::Group(id, length) => match length {
                None => true,
                Some(length) => match self.count(length, "the length of a coordinate", 1) {
                    Some(len) => {
                        self.program.groups[id.index()].len = len;
                        true
                    }
                    None => false,
                },
            },
            Declared::Coef(id, length, distribution) => self.coef(id, length, distribution).is_some(),
            Declared::Net(id, architecture) => self.net(id, architecture).is_some(),
            Declared::Data(_) => true,
        };
        let symbol = &mut self.symbols[i];
        symbol.value = value;
        symbol.sound = sound;
    }

    /// The expression that the command line sets instead.
    pub fn value_set(&self, symbol: usize) -> Option<&'a ast::Expr> {
        let (name, _) = self.symbols.get_index(symbol)?;
        self.overrides.set.iter().rev().find(|(set, _)| set == name).map(|(_, value)| value)
    }

    /// Resolves the value given in the file, or the one that the command line sets instead.
    fn set_or<T>(
        &mut self,
        symbol: usize,
        name: &str,
        span: Span,
        given: &'a ast::Expr,
        resolve: impl FnOnce(&mut Self, &'a ast::Expr) -> Option<T>,
    ) -> Option<T> {
        match self.value_set(symbol) {
            Some(value) => self.in_other_text(span, format!("--set {name}=.."), |this| resolve(this, value)),
            None => resolve(self, given),
        }
    }

    /// An error for each `--set` of what cannot be set.
    pub fn judge_overrides(&mut self) {
        let overrides = self.overrides;
        for (name, _) in &overrides.set {
            let error = match self.symbols.get(name.as_str()).map(|symbol| (symbol.declared, symbol.span)) {
                Some((Declared::Const(_) | Declared::Param(..), _)) => continue,
                Some((other, place)) => {
                    let message = format!("`--set {name}=..`: `{name}` is {}", other.noun());
                    Diagnostic::error(place, message).note("only a const or a param can be set")
                }
                None => {
                    let settable = |declared| matches!(declared, Declared::Const(_) | Declared::Param(..));
                    let names = self.symbols.iter().filter(|(_, symbol)| settable(symbol.declared));
                    let message = format!("`--set {name}=..`: there is no const or param `{name}`");
                    Diagnostic::error(Span::default(), message).suggest(name, names.map(|(name, _)| *name))
                }
            };
            self.report(error);
        }
    }

    fn coef(&mut self, id: CoefId, length: &'a ast::Expr, call: &'a ast::Call) -> Option<()> {
        let len = self.count(length, "the length of a table of coefficients", 0);
        let (distribution, seed) = match call.name.text.as_str() {
            "normal" => {
                let arguments = self.arguments(call.into(), &["seed"], &[]);
                (Some(CoefDistribution::Normal), self.seed(arguments.get("seed")))
            }
            "uniform" => {
                let arguments = self.arguments(call.into(), &["range", "seed"], &["range"]);
                let range = match arguments.argument("range") {
                    None => Some((0.0, 1.0)),
                    Some(range) => self.interval(range),
                };
                let seed = self.seed(arguments.get("seed"));
                (range.map(|(lo, hi)| CoefDistribution::Uniform(lo, hi)), seed)
            }
            other => {
                let error = Diagnostic::error(call.name.span, format!("there is no distribution `{other}`"));
                self.report(error.suggest(other, ["normal", "uniform"]).note("choose from `normal`, `uniform`"));
                (None, None)
            }
        };
        let coef = &mut self.program.coefs[id.index()];
        (coef.len, coef.distribution, coef.seed) = (len?, distribution?, seed?);
        Some(())
    }

    fn seed(&mut self, expr: Option<&'a ast::Expr>) -> Option<u64> {
        let Some(expr) = expr else { return Some(0) };
        let seed = self.whole(expr, "a seed")?;
        match u64::try_from(seed) {
            Ok(seed) => Some(seed),
            Err(_) => self.fail(Diagnostic::error(expr.span, "a seed must be at least 0")),
        }
    }

    /// `lo..hi` as an argument, both ends finite and in order.
    fn interval(&mut self, range: &'a ast::Argument) -> Option<(f64, f64)> {
        let Some(end) = &range.end else {
            let error = Diagnostic::error(range.value.span, "this is not a range");
            return self.fail(error.note("write it with its two ends: `0..1`"));
        };
        self.ends(&range.value, end)
    }

    fn ends(&mut self, lo: &'a ast::Expr, hi: &'a ast::Expr) -> Option<(f64, f64)> {
        let what = "the end of an interval";
        let (first, last) = (self.real(lo, what, Sign::Any), self.real(hi, what, Sign::Any));
        let (first, last) = (first?, last?);
        if first >= last {
            let error = Diagnostic::error(lo.span.to(hi.span), "this interval is empty");
            return self.fail(error.label(format!("{first}..{last}")));
        }
        Some((first, last))
    }

    fn net(&mut self, id: NetId, call: &'a ast::Call) -> Option<()> {
        if call.name.text != "mlp" {
            let message = format!("there is no architecture `{}`", call.name.text);
            return self.fail(Diagnostic::error(call.name.span, message).note("choose `mlp`"));
        }
        let names = ["width", "depth", "activation", "outputs", "share"];
        let arguments = self.arguments(call.into(), &names, &[]);
        for name in &names[..3] {
            if arguments.get(name).is_none() {
                let example = "`mlp(width = 64, depth = 4, activation = tanh)`";
                let error = Diagnostic::error(call.span, format!("this network has no `{name}`"));
                self.report(error.note(format!("such as {example}")));
            }
        }
        let width = arguments.get("width").and_then(|expr| self.count(expr, "the width of a network", 1));
        let depth = arguments.get("depth").and_then(|expr| self.layers(expr));
        let activation = arguments.get("activation").and_then(|expr| self.word(expr, "activation", &Activation::NAMES));
        let outputs = match arguments.get("outputs") {
            None => Some(1),
            Some(expr) => self.count(expr, "the number of outputs", 1),
        };
        let share = match arguments.get("share") {
            None => Some(None),
            Some(expr) => self.share(expr).map(Some),
        };
        let net = &mut self.program.nets[id.index()];
        (net.width, net.depth, net.activation) = (width?, depth?, activation?);
        (net.outputs, net.share) = (outputs?, share?);
        Some(())
    }

    /// `block(50)`
    fn share(&mut self, expr: &'a ast::Expr) -> Option<usize> {
        let Some(call) = CallRef::of(expr).filter(|call| call.name == "block") else {
            let error = Diagnostic::error(expr.span, "this is no way to share weights");
            return self.fail(error.note("write the length of a block: `share = block(50)`"));
        };
        let arguments = self.arguments(call, &["length"], &[]);
        match arguments.get("length") {
            Some(length) => self.count(length, "the length of a block", 1),
            None => self.fail(Diagnostic::error(call.span, "`block` needs a length").note("write `block(50)`")),
        }
    }

    /// A block of shared weights is no longer than the inputs.
    pub fn judge_shares(&mut self) {
        for i in 0..self.program.nets.len() {
            let Net { share, inputs, span, .. } = self.program.nets[i];
            if let Some(length) = share
                && inputs > 0
                && length > inputs
            {
                self.program.nets[i].share = Some(inputs);
                let message = format!("a block of {length} inputs is shared where there are {inputs}");
                self.report(Diagnostic::warning(span, message).note(format!("`block({inputs})` is taken")));
            }
        }
    }

    /// Domains of coordinates, and the lists of fields and lets in the order of the text.
    pub fn settle(&mut self, ast: &'a Ast) {
        let mut ball = None;
        for item in &ast.items {
            match &item.kind {
                ItemKind::Space { coordinates, domain: Some(domain), .. } => {
                    if domain.call.name.text == "ball"
                        && let Some(first) = ball.replace(domain.call.span)
                    {
                        let error = Diagnostic::error(domain.call.span, "there is a ball already");
                        let note = "all coordinates of a ball stand in one statement: `space x[3], y in ball(..)`";
                        self.report(error.also(first, "the first one").note(note));
                    }
                    let said = self.diagnostics.len();
                    self.space_domain(coordinates, domain);
                    self.domains_sound &= self.diagnostics.len() == said;
                }
                ItemKind::Time { name, range: Some((lo, hi)) } => match self.ends(lo, hi) {
                    Some((lo, hi)) => self.set_domain(name, Domain::Interval(lo, hi)),
                    None => self.domains_sound = false,
                },
                ItemKind::Field { name, .. } => {
                    if let Some(named) = self.named(name) {
                        self.program.fields.push(named);
                    }
                }
                ItemKind::Let { name, .. } => {
                    if let Some(named) = self.named(name) {
                        self.program.lets.push(named);
                    }
                }
                _ => {}
            }
        }
    }

    fn named(&self, name: &ast::Name) -> Option<Named> {
        let symbol = self.symbols.get(name.text.as_str()).filter(|symbol| symbol.span == name.span)?;
        Some(Named { name: name.text.clone(), span: name.span, value: symbol.value? })
    }

    fn set_domain(&mut self, name: &ast::Name, domain: Domain) {
        if let Some(group) = self.program.groups.iter_mut().find(|group| group.span == name.span) {
            group.domain = domain;
        }
    }

    fn space_domain(&mut self, coordinates: &'a [ast::Coordinate], domain: &'a ast::Domain) {
        let call = &domain.call;
        let name = call.name.text.as_str();
        let (sets, distributions) = (["box", "ball"], ["normal", "brownian"]);
        if domain.bounded && distributions.contains(&name) || !domain.bounded && sets.contains(&name) {
            let (word, other) = if domain.bounded { ("from", "in") } else { ("in", "from") };
            let message = format!("`{name}` follows the word `{word}`, not `{other}`");
            self.report(Diagnostic::error(call.name.span, message).note(format!("write `{word} {name}(..)`")));
        }
        let domain = match name {
            "box" => return self.space_box(coordinates, call),
            "ball" => {
                let arguments = self.arguments(call.into(), &["radius", "measure"], &[]);
                let radius = match arguments.get("radius") {
                    None => Some(1.0),
                    Some(radius) => self.real(radius, "a radius", Sign::Positive),
                };
                let measures = [("radius", false), ("volume", true)];
                let volume = match arguments.get("measure") {
                    None => Some(false),
                    Some(measure) => self.word(measure, "measure", &measures),
                };
                radius.zip(volume).map(|(radius, volume)| Domain::Ball { radius, volume })
            }
            "normal" => {
                self.arguments(call.into(), &[], &[]);
                Some(Domain::Normal)
            }
            "brownian" => {
                let arguments = self.arguments(call.into(), &["scale"], &[]);
                if !self.program.groups.iter().any(|group| group.kind == GroupKind::Time) {
                    let error = Diagnostic::error(call.span, "Brownian motion needs a time coordinate");
                    self.report(error.note("declare one: `time t in 0..1`"));
                }
                match arguments.get("scale") {
                    None => Some(Domain::Brownian { scale: 1.0 }),
                    Some(scale) => {
                        let scale = self.real(scale, "a scale", Sign::Positive);
                        scale.map(|scale| Domain::Brownian { scale })
                    }
                }
            }
            _ => {
                let all = if domain.bounded { sets } else { distributions };
                let error = Diagnostic::error(call.name.span, format!("there is no domain `{name}`"));
                let error = error.suggest(name, sets.into_iter().chain(distributions));
                return self.report(error.note(format!("choose from `{}`, `{}`", all[0], all[1])));
            }
        };
        if let Some(domain) = domain {
            coordinates.iter().for_each(|coordinate| self.set_domain(&coordinate.name, domain));
        }
    }

    fn space_box(&mut self, coordinates: &'a [ast::Coordinate], call: &'a ast::Call) {
        let ranges = &call.arguments;
        if let Some(name) = ranges.iter().find_map(|range| range.name.as_ref()) {
            let error = Diagnostic::error(name.span, "the intervals of a box have no names");
            return self.report(error.note("they stand in the order of the coordinates"));
        }
        if ranges.len() > 1 && ranges.iter().all(|range| range.end.is_none()) {
            let error = Diagnostic::error(call.span, "these are numbers, not intervals");
            return self.report(error.note("an interval is written with its two ends, as in `box(-1..2)`"));
        }
        if ranges.len() != coordinates.len() && ranges.len() != 1 {
            let (given, wanted) = (ranges.len(), coordinates.len());
            let message = format!("this box has {given} intervals for {wanted} coordinates");
            let error = Diagnostic::error(call.span, message);
            return self.report(error.note("give one for each (a vector counts once), or one for all"));
        }
        let intervals: Vec<Option<(f64, f64)>> = ranges.iter().map(|range| self.interval(range)).collect();
        for (i, coordinate) in coordinates.iter().enumerate() {
            if let Some((lo, hi)) = intervals[if intervals.len() == 1 { 0 } else { i }] {
                self.set_domain(&coordinate.name, Domain::Interval(lo, hi));
            }
        }
    }
}
