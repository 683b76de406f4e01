//! What a network is applied to: columns of the point as they are, or scalar expressions.

use super::Lowering;
use crate::diagnostic::Diagnostic;
use crate::operator::graph::{Argument, Id, Node};
use crate::program::{Domain, ExprId, Function, GroupId, Kind, Shape};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::One;

impl Lowering<'_> {
    pub(super) fn arguments(&mut self, arguments: &[ExprId], application: ExprId) -> Result<Vec<Argument>, Diagnostic> {
        let mut out: Vec<Argument> = Vec::new();
        for a in arguments {
            if let Some((first, len)) = self.plain_columns(*a) {
                match out.last_mut() {
                    Some(Argument::Columns { first: f, len: l }) if *f + *l == first => *l += len,
                    _ => out.push(Argument::Columns { first, len }),
                }
                continue;
            }
            let periodic = self.program.periodic_argument(*a);
            for id in self.components(*a)? {
                if self.graph.has_atom(id) {
                    return Err(Diagnostic::error(self.span(application), "a network of a network is not compiled")
                        .also(self.span(*a), "this argument depends on a network")
                        .note("the arguments of a network are coordinates and functions of them"));
                }
                match periodic {
                    Some(group) => out.extend(self.periodic(id, group).map(Argument::Scalar)),
                    None => out.push(Argument::Scalar(id)),
                }
            }
        }
        Ok(out)
    }

    /// An argument that is columns of the point as they are.
    fn plain_columns(&self, e: ExprId) -> Option<(usize, usize)> {
        match &self.program.expr(e).kind {
            Kind::Coordinates(g) => {
                let g = &self.program.groups[g.index()];
                (!g.periodic).then_some((g.first, g.len))
            }
            Kind::Element { of, index } if index.terms.is_empty() => {
                let (first, _) = self.plain_columns(*of)?;
                matches!(self.program.shape(*of), Shape::Vector(_)).then_some((first + index.offset as usize, 1))
            }
            Kind::Slice { of, lo, hi } => {
                let (first, _) = self.plain_columns(*of)?;
                Some((first + lo, hi - lo))
            }
            _ => None,
        }
    }

    /// (cos, sin) of one period of a coordinate; its phase does not matter.
    fn periodic(&mut self, coordinate: Id, group: GroupId) -> [Id; 2] {
        let length = match self.program.groups[group.index()].domain {
            Domain::Interval(lo, hi) => hi - lo,
            _ => 1.0,
        };
        let period = BigRational::from_float(length).unwrap_or_else(BigRational::one);
        let pi = self.graph.intern(Node::Pi);
        let angle = self.graph.mul(pi, coordinate);
        let angle = self.graph.scale(BigRational::from_integer(BigInt::from(2)) / period, angle);
        [Function::Cos, Function::Sin].map(|f| self.graph.call(f, vec![angle]))
    }
}
