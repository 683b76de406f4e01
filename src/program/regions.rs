//! Regions: where the points of a condition lie, and which way is out.

use super::arguments::Sign;
use super::names::Declared;
use super::resolver::Resolver;
use super::types::*;
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::{self, Name};

impl<'a> Resolver<'a> {
    /// The region of a condition; without one, the interior.
    pub fn region(&mut self, region: Option<&'a ast::Region>) -> Option<Region> {
        match region {
            None => Some(Region::Interior),
            Some(ast::Region::Named(name)) => self.named_region(name),
            Some(ast::Region::Face { coordinate, value }) => {
                let (id, at) = (self.expr(coordinate), self.real(value, "a face", Sign::Any));
                let face = self.coordinate(id?, coordinate.span)?;
                self.face(face, at?, coordinate.span.to(value.span))
            }
        }
    }

    fn named_region(&mut self, name: &Name) -> Option<Region> {
        match name.text.as_str() {
            "interior" => Some(Region::Interior),
            "boundary" => {
                if !self.space_sound || !self.domains_sound {
                    return None;
                }
                let interval = |group: &&Group| matches!(group.domain, Domain::Interval(..));
                let lost = self.program.space().find(|group| !interval(group));
                let lost = lost.map(|group| (group.name.clone(), group.span));
                if let Some((named, place)) = lost {
                    let error = Diagnostic::error(name.span, "only a box has a boundary to sample");
                    let error = error.also(place, format!("`{named}` has no interval"));
                    return self.fail(error.note("such as `space x in box(0..1)`"));
                }
                let faces = self.program.space().any(|group| !group.periodic);
                if !faces {
                    let why = match self.program.space_dimension() {
                        0 => "there is no space coordinate",
                        _ => "every space coordinate is periodic",
                    };
                    return self.fail(Diagnostic::error(name.span, format!("there is no boundary: {why}")));
                }
                Some(Region::Boundary)
            }
            text => match self.symbols.get(text).map(|symbol| symbol.declared) {
                Some(Declared::Data(id)) => Some(Region::Data(id)),
                Some(Declared::Group(..)) => {
                    let error = Diagnostic::error(name.span, format!("`{text}` is a coordinate, not a region"));
                    self.fail(error.note(format!("a face fixes its value: `on {text} = 0`")))
                }
                other => {
                    let message = match other {
                        Some(other) => format!("`{text}` is {}, not a region", other.noun()),
                        None => format!("there is no region `{text}`"),
                    };
                    let data = self.program.data.iter().map(|data| data.name.as_str());
                    let names: Vec<&str> = data.chain(["interior", "boundary"]).collect();
                    let error = Diagnostic::error(name.span, message).suggest(text, names);
                    self.fail(error.note("a region is `boundary`, a face such as `t = 0`, or a data set"))
                }
            },
        }
    }

    fn face(&mut self, coordinate: CoordinateRef, value: f64, span: Span) -> Option<Region> {
        let group = &self.program.groups[coordinate.group.index()];
        let (name, place) = (group.name.clone(), group.span);
        let outward = match group.domain {
            Domain::Interval(lo, hi) if !(lo..=hi).contains(&value) => {
                let error = Diagnostic::error(span, format!("{value} is outside the interval of `{name}`"));
                return self.fail(error.also(place, format!("{lo}..{hi}")));
            }
            Domain::Interval(..) if group.periodic => 0,
            Domain::Interval(lo, _) if value == lo => -1,
            Domain::Interval(_, hi) if value == hi => 1,
            Domain::None if group.kind == GroupKind::Time => 0,
            Domain::Interval(..) => 0,
            Domain::None if !self.domains_sound => return None,
            _ => {
                let error = Diagnostic::error(span, "only a box has faces to sample");
                let error = error.also(place, format!("`{name}` has no interval"));
                return self.fail(error.note("such as `space x in box(0..1)`"));
            }
        };
        Some(Region::Face { coordinate, value, outward })
    }

    /// A normal derivative needs a way out.
    pub fn judge_normal(&mut self, residual: ExprId, region: Option<&Region>) -> Option<()> {
        let why = match region {
            Some(Region::Boundary) => return Some(()),
            Some(Region::Face { outward: -1 | 1, .. }) => return Some(()),
            Some(Region::Face { .. }) => "this face is not at an end of an interval",
            Some(Region::Interior) => "the interior has no normal: put the condition `on` a face or the boundary",
            Some(Region::Data(_)) => "data points have no normal",
            None => "an output is not on a face",
        };
        let span = self.find(residual, |kind| matches!(kind, Kind::NormalDerivative(_)))?;
        self.fail(Diagnostic::error(span, "`d_n` has no meaning here").note(why))
    }

    /// The place of an expression of this kind below another one.
    pub fn find(&self, root: ExprId, test: impl Fn(&Kind) -> bool) -> Option<Span> {
        let below = self.program.reachable([root]);
        below.into_iter().map(|id| self.program.expr(id)).find(|expr| test(&expr.kind)).map(|expr| expr.span)
    }

    /// An error if points would have to be drawn from a domain that is not given. `fixed` is not drawn.
    pub fn judge_domains(&mut self, fixed: Option<GroupId>, span: Span, what: &str) -> Option<()> {
        if !self.space_sound || !self.domains_sound {
            return None;
        }
        let undrawn = |(i, group): &(usize, &Group)| {
            group.domain == Domain::None && group.kind != GroupKind::State && fixed != Some(GroupId(*i as u32))
        };
        let Some((_, group)) = self.program.groups.iter().enumerate().find(undrawn) else {
            return Some(());
        };
        let (name, place) = (group.name.clone(), group.span);
        let example = match group.kind {
            GroupKind::Time => format!("`time {name} in 0..1`"),
            _ => format!("`space {name} in box(0..1)`"),
        };
        let message = format!("{what} needs points, but `{name}` has no domain");
        self.fail(Diagnostic::error(span, message).also(place, "declared here").note(format!("such as {example}")))
    }
}
