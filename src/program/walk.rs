//! Ways through expressions that do not care what they mean.

use super::types::*;

impl Kind {
    /// Calls `visit` with each operand, left to right.
    pub fn for_each_child(&self, mut visit: impl FnMut(ExprId)) {
        match self {
            Kind::Number(_)
            | Kind::Pi
            | Kind::Param(_)
            | Kind::Coordinates(_)
            | Kind::Coef(_)
            | Kind::Data { .. }
            | Kind::IndexValue(_) => {}
            Kind::Network { arguments: list, .. } | Kind::List(list) | Kind::Call(_, list) => {
                list.iter().copied().for_each(visit)
            }
            Kind::Sum(terms) | Kind::Product(terms) => terms.iter().for_each(|(_, term)| visit(*term)),
            Kind::MatrixProduct(a, b) | Kind::Power(a, b) | Kind::Advection(a, b) | Kind::Dot(a, b) => {
                visit(*a);
                visit(*b);
            }
            Kind::Element { of, .. }
            | Kind::Slice { of, .. }
            | Kind::Reduce { body: of, .. }
            | Kind::Partial { of, .. }
            | Kind::Laplacian(of)
            | Kind::Gradient(of)
            | Kind::Divergence(of)
            | Kind::Curl(of)
            | Kind::Hessian(of)
            | Kind::NormalDerivative(of)
            | Kind::Trace(of)
            | Kind::Determinant(of)
            | Kind::Norm2(of) => visit(*of),
        }
    }

    /// True for the operators that differentiate.
    pub fn is_derivative(&self) -> bool {
        matches!(
            self,
            Kind::Partial { .. }
                | Kind::Laplacian(_)
                | Kind::Gradient(_)
                | Kind::Divergence(_)
                | Kind::Curl(_)
                | Kind::Hessian(_)
                | Kind::Advection(..)
                | Kind::NormalDerivative(_)
        )
    }
}

impl Program {
    /// The expressions below the roots, the roots included, each once, ascending: operands before what uses them.
    pub fn reachable(&self, roots: impl IntoIterator<Item = ExprId>) -> Vec<ExprId> {
        let mut seen = vec![false; self.exprs.len()];
        let mut open: Vec<ExprId> = roots.into_iter().collect();
        while let Some(id) = open.pop() {
            if !std::mem::replace(&mut seen[id.index()], true) {
                self.expr(id).kind.for_each_child(|child| open.push(child));
            }
        }
        (0..self.exprs.len()).filter(|&i| seen[i]).map(|i| ExprId(i as u32)).collect()
    }
}

impl Program {
    /// How many inputs of a network this argument makes: its length, or twice that if it is (a part of) a periodic
    /// coordinate given directly, which enters as (cos, sin). See [`Program::periodic_argument`].
    pub fn input_count(&self, argument: ExprId) -> usize {
        let len = match self.shape(argument) {
            Shape::Scalar => 1,
            Shape::Vector(n) => n,
            Shape::Matrix(m, n) => m.saturating_mul(n),
        };
        if self.periodic_argument(argument).is_some() { len.saturating_mul(2) } else { len }
    }

    /// The periodic group that this network argument is an element, a slice or all of.
    pub fn periodic_argument(&self, argument: ExprId) -> Option<GroupId> {
        match self.expr(argument).kind {
            Kind::Coordinates(group) => self.groups[group.index()].periodic.then_some(group),
            Kind::Element { of, .. } | Kind::Slice { of, .. } => self.periodic_argument(of),
            _ => None,
        }
    }
}
