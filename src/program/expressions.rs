//! Expressions: from tree to arena, with their shapes. Calls are in `calls` and `operators`.

use super::fold::Term;
use super::names::Declared;
use super::resolver::{Binding, MAX_DEPTH, Resolver};
use super::types::*;
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::{self, ExprKind, Infix, Name};

/// Deepest recursion over the text: an expression of legal depth needs at most two steps per level (an operator's
/// use and its body) and what the parser lets through between them.
const MAX_LEVEL: usize = 3 * MAX_DEPTH;

impl<'a> Resolver<'a> {
    /// Resolves an expression; none if it is wrong, which has been reported then.
    pub fn expr(&mut self, expr: &'a ast::Expr) -> Option<ExprId> {
        if self.level >= MAX_LEVEL {
            return self.fail(self.too_deep(expr.span));
        }
        if self.full {
            return None;
        }
        self.level += 1;
        let result = self.expr_kind(expr);
        self.level -= 1;
        result
    }

    fn expr_kind(&mut self, expr: &'a ast::Expr) -> Option<ExprId> {
        let span = expr.span;
        match &expr.kind {
            ExprKind::Number(value) => self.number(value.clone(), span),
            ExprKind::Name(name) => self.name(name, span),
            ExprKind::Negate(of) => {
                let id = self.expr(of)?;
                self.sum(&[(true, id, of.span)], self.shape(id), span)
            }
            ExprKind::Sum(first, rest) => self.sum_of(first, rest, span),
            ExprKind::Product(first, rest) => self.product_of(first, rest, span),
            ExprKind::Power(base, exponent) => self.power_of(base, exponent, span),
            ExprKind::Call(name, arguments) => self.call(name, arguments, span),
            ExprKind::Reduce { reduction, index, lo, hi, body } => self.reduce(*reduction, index, lo, hi, body, span),
            ExprKind::Index(of, index) => self.element(of, index, span),
            ExprKind::Slice(of, lo, hi) => self.slice(of, lo, hi, span),
            ExprKind::Member(of, column) => self.column(of, column, span),
            ExprKind::List(items) => self.list(items, span),
        }
    }

    fn name(&mut self, name: &'a str, span: Span) -> Option<ExprId> {
        if let Some((.., binding)) = self.locals.iter().rev().find(|(local, ..)| *local == name) {
            return match *binding {
                Binding::Value(value) => value,
                Binding::Index(id) => {
                    let index = IndexExpr { offset: 0, terms: vec![(id, 1)] };
                    self.push(Kind::IndexValue(index), Shape::Scalar, span)
                }
            };
        }
        if name == "pi" {
            return self.push(Kind::Pi, Shape::Scalar, span);
        }
        let Some(symbol) = self.symbols.get(name) else {
            return self.fail(self.unknown_value(name, span));
        };
        if !symbol.sound {
            return None;
        }
        match symbol.declared {
            Declared::Const(_) | Declared::Field(_) | Declared::Let(_) => symbol.value,
            Declared::Param(id, _) => self.push(Kind::Param(id), Shape::Scalar, span),
            Declared::Group(id, _) => {
                self.used_groups[id.index()] = true;
                let group = &self.program.groups[id.index()];
                let shape = if group.is_vector { Shape::Vector(group.len) } else { Shape::Scalar };
                self.push(Kind::Coordinates(id), shape, span)
            }
            Declared::Coef(id, ..) => {
                let len = self.program.coefs[id.index()].len;
                self.push(Kind::Coef(id), Shape::Vector(len), span)
            }
            Declared::Net(..) => {
                let error = Diagnostic::error(span, format!("`{name}` is a network, not a value"));
                self.fail(error.note(format!("apply it to coordinates: `{name}(..)`")))
            }
            Declared::Data(_) => {
                let error = Diagnostic::error(span, format!("`{name}` is a data set, not a value"));
                self.fail(error.note(format!("name one of its columns: `{name}.column`")))
            }
        }
    }

    fn sum_of(&mut self, first: &'a ast::Expr, rest: &'a [(Infix, ast::Expr)], span: Span) -> Option<ExprId> {
        let head = self.expr(first);
        let mut terms: Vec<Option<Term>> = vec![head.map(|id| (false, id, first.span))];
        for (infix, term) in rest {
            let id = self.expr(term);
            terms.push(id.map(|id| (*infix == Infix::Sub, id, term.span)));
        }
        let terms: Vec<Term> = terms.into_iter().collect::<Option<_>>()?;
        let shape = self.shape(terms[0].1);
        for &(negative, id, place) in &terms[1..] {
            let other = self.shape(id);
            if other != shape {
                let message = match negative {
                    false => format!("a {other} cannot be added to a {shape}"),
                    true => format!("a {other} cannot be subtracted from a {shape}"),
                };
                let error = Diagnostic::error(place, message).label(other.to_string());
                return self.fail(error.also(terms[0].2, shape.to_string()));
            }
        }
        self.sum(&terms, shape, span)
    }

    /// Scalars are gathered; vectors and matrices are multiplied in the order in which they stand.
    fn product_of(&mut self, first: &'a ast::Expr, rest: &'a [(Infix, ast::Expr)], span: Span) -> Option<ExprId> {
        let mut factors = Vec::with_capacity(rest.len() + 1);
        factors.push((false, self.expr(first), first.span));
        for (infix, factor) in rest {
            factors.push((*infix == Infix::Div, self.expr(factor), factor.span));
        }
        let mut terms: Vec<Term> = Vec::with_capacity(factors.len());
        // The place among the terms of the factor that is no scalar.
        let mut tensor: Option<usize> = None;
        if factors.iter().any(|(_, id, _)| id.is_none()) {
            return None;
        }
        for (divided, id, place) in factors.into_iter().filter_map(|(divided, id, place)| Some((divided, id?, place))) {
            let shape = self.shape(id);
            match tensor {
                _ if shape == Shape::Scalar => terms.push((divided, id, place)),
                _ if divided => {
                    let error = Diagnostic::error(place, format!("division by a {shape}"));
                    return self.fail(error.label(shape.to_string()).note("only division by a number has a meaning"));
                }
                None => {
                    tensor = Some(terms.len());
                    terms.push((divided, id, place));
                }
                Some(position) => {
                    let (_, left, left_place) = terms[position];
                    terms[position].1 = self.matrix_product((left, left_place), (id, place))?;
                    terms[position].2 = left_place.to(place);
                }
            }
        }
        let shape = tensor.map_or(Shape::Scalar, |position| self.shape(terms[position].1));
        self.product(&terms, shape, span)
    }

    fn matrix_product(&mut self, left: (ExprId, Span), right: (ExprId, Span)) -> Option<ExprId> {
        let (a, b) = (self.shape(left.0), self.shape(right.0));
        let shape = match (a, b) {
            (Shape::Matrix(m, k), Shape::Vector(l)) if k == l => Shape::Vector(m),
            (Shape::Matrix(m, k), Shape::Matrix(l, n)) if k == l => Shape::Matrix(m, n),
            _ => {
                let error = Diagnostic::error(right.1, format!("there is no product of a {a} and a {b}"))
                    .label(b.to_string())
                    .also(left.1, a.to_string());
                return self.fail(match (a, b) {
                    (Shape::Vector(_), Shape::Vector(_)) => error.note("for the inner product write `dot(a, b)`"),
                    (Shape::Vector(_), Shape::Matrix(..)) => error.note("the matrix stands on the left: `A*v`"),
                    _ => error.note("the rows of the right factor must match the columns of the left one"),
                });
            }
        };
        self.push(Kind::MatrixProduct(left.0, right.0), shape, left.1.to(right.1))
    }

    fn power_of(&mut self, base: &'a ast::Expr, exponent: &'a ast::Expr, span: Span) -> Option<ExprId> {
        let (b, e) = (self.expr(base), self.expr(exponent));
        let (b, e) = (b?, e?);
        if self.shape(b) != Shape::Scalar {
            let shape = self.shape(b).to_string();
            let error = Diagnostic::error(base.span, format!("a {shape} has no power")).label(shape);
            return self.fail(error.note("for the sum of squares of its elements write `norm2(v)`"));
        }
        if self.shape(e) != Shape::Scalar {
            let shape = self.shape(e).to_string();
            return self.fail(Diagnostic::error(exponent.span, "an exponent is a number").label(shape));
        }
        self.power((b, base.span), (e, exponent.span), span)
    }

    fn reduce(
        &mut self,
        reduction: Reduction,
        index: &'a Name,
        lo: &'a ast::Expr,
        hi: &'a ast::Expr,
        body: &'a ast::Expr,
        span: Span,
    ) -> Option<ExprId> {
        let (first, end) = (self.whole(lo, "the start of a range"), self.whole(hi, "the end of a range"));
        let mut bounds = first.zip(end);
        let mut sound = bounds.is_some() && self.free_index(index);
        if let Some((first, end)) = bounds
            && first > end
        {
            let error = Diagnostic::error(lo.span.to(hi.span), "this range runs backwards");
            self.report(error.label(format!("{first}..{end}")).note("ranges are half-open: `0..3` is 0, 1, 2"));
            sound = false;
            bounds = None;
        }
        let empty = bounds.is_some_and(|(first, end)| first == end);
        let id = IndexId(self.ranges.len() as u32);
        self.ranges.push(bounds.filter(|_| !empty));
        self.locals.push((&index.text, index.span, Binding::Index(id)));
        let result = self.expr(body);
        self.locals.pop();
        let body = result?;
        let (lo_value, hi_value) = bounds.filter(|_| sound)?;
        let shape = self.shape(body);
        if empty && reduction == Reduction::Max {
            let error = Diagnostic::error(lo.span.to(hi.span), "the maximum over an empty range does not exist");
            return self.fail(error.label(format!("{lo_value}..{hi_value}")));
        }
        if empty && shape == Shape::Scalar {
            return self.integer(0, span);
        }
        self.push(Kind::Reduce { reduction, index: id, lo: lo_value, hi: hi_value, body }, shape, span)
    }

    /// An error if the name of an index is taken.
    fn free_index(&mut self, index: &Name) -> bool {
        let local = self.locals.iter().rev().find(|(name, ..)| *name == index.text);
        let taken = match local {
            Some((_, place, Binding::Index(_))) => Some((*place, "an index")),
            Some((_, place, Binding::Value(_))) => Some((*place, "a parameter of the operator")),
            None => self.symbols.get(index.text.as_str()).map(|symbol| (symbol.span, symbol.declared.noun())),
        };
        let error = match taken {
            None if index.text == "pi" => Diagnostic::error(index.span, "`pi` is a builtin constant"),
            None => return true,
            Some((place, noun)) => {
                let message = format!("the index `{}` hides another value", index.text);
                Diagnostic::error(index.span, message).also(place, format!("`{}` is {noun}", index.text))
            }
        };
        self.report(error.note("choose another name"));
        false
    }

    fn element(&mut self, of: &'a ast::Expr, index: &'a ast::Expr, span: Span) -> Option<ExprId> {
        let (value, position) = (self.expr(of), self.expr(index));
        let (value, position) = (value?, position?);
        let (len, shape) = match self.shape(value) {
            Shape::Scalar => {
                return self.fail(Diagnostic::error(of.span, "a scalar has no elements").label("scalar"));
            }
            Shape::Vector(n) => (n, Shape::Scalar),
            Shape::Matrix(m, n) => (m, Shape::Vector(n)),
        };
        let position = self.index(position, index.span, len)?;
        self.element_of(value, position, shape, span)
    }

    /// An element of a vector, or a row of a matrix; of a list with a fixed index, the item itself.
    pub fn element_of(&mut self, of: ExprId, index: IndexExpr, shape: Shape, span: Span) -> Option<ExprId> {
        if let Kind::List(items) = &self.program.expr(of).kind
            && index.terms.is_empty()
        {
            return usize::try_from(index.offset).ok().and_then(|i| items.get(i).copied());
        }
        self.push(Kind::Element { of, index }, shape, span)
    }

    /// The expression as an index into `len` elements, in range at the extremes of its variables.
    fn index(&mut self, id: ExprId, span: Span, len: usize) -> Option<IndexExpr> {
        let Some(index) = self.as_index(id) else {
            let error = Diagnostic::error(span, "this is not an index");
            let error = match self.as_number(id) {
                Some(_) => error.label(format!("{} is not a whole number", self.program.text(id))),
                None => error.note("an index is whole numbers times index variables plus a whole number: `2*i + 1`"),
            };
            return self.fail(error);
        };
        let (mut least, mut most) = (index.offset as i128, index.offset as i128);
        for (variable, coefficient) in &index.terms {
            // Within an empty range, or one that is wrong, there is nothing to check.
            let Some((lo, hi)) = self.ranges[variable.index()] else {
                return Some(index);
            };
            let ends = [lo as i128 * *coefficient as i128, (hi as i128 - 1) * *coefficient as i128];
            least += ends[0].min(ends[1]);
            most += ends[0].max(ends[1]);
        }
        if least < 0 || most >= len as i128 {
            let label = match least == most {
                true => format!("{least}"),
                false => format!("runs from {least} to {most}"),
            };
            let error = Diagnostic::error(span, format!("this index is out of the range 0..{len}"));
            return self.fail(error.label(label).note("indices start at 0"));
        }
        Some(index)
    }

    fn slice(&mut self, of: &'a ast::Expr, lo: &'a ast::Expr, hi: &'a ast::Expr, span: Span) -> Option<ExprId> {
        let value = self.expr(of);
        let (first, end) = (self.whole(lo, "the start of a slice"), self.whole(hi, "the end of a slice"));
        let (value, first, end) = (value?, first?, end?);
        let Shape::Vector(len) = self.shape(value) else {
            let shape = self.shape(value).to_string();
            return self.fail(Diagnostic::error(of.span, "only a vector has slices").label(shape));
        };
        if first < 0 || end as i128 > len as i128 || first >= end {
            let error = Diagnostic::error(lo.span.to(hi.span), format!("there is no such slice of 0..{len}"));
            return self.fail(error.label(format!("{first}..{end}")).note("slices are half-open and not empty"));
        }
        let (lo, hi) = (first as usize, end as usize);
        self.push(Kind::Slice { of: value, lo, hi }, Shape::Vector(hi - lo), span)
    }

    fn column(&mut self, of: &'a ast::Expr, column: &Name, span: Span) -> Option<ExprId> {
        let data = match &of.kind {
            ExprKind::Name(name) if !self.locals.iter().any(|(local, ..)| local == name) => {
                match self.symbols.get(name.as_str()).map(|symbol| symbol.declared) {
                    Some(Declared::Data(id)) => id,
                    Some(other) => {
                        let message = format!("`{name}` has no columns: it is {}", other.noun());
                        return self.fail(Diagnostic::error(of.span, message));
                    }
                    None => return self.fail(self.unknown_value(name, of.span)),
                }
            }
            _ => return self.fail(Diagnostic::error(of.span, "only a data set has columns")),
        };
        let columns = &mut self.program.data[data.index()].columns;
        let position = columns.iter().position(|known| *known == column.text).unwrap_or_else(|| {
            columns.push(column.text.clone());
            columns.len() - 1
        });
        self.push(Kind::Data { data, column: position }, Shape::Scalar, span)
    }

    fn list(&mut self, items: &'a [ast::Expr], span: Span) -> Option<ExprId> {
        let ids: Vec<Option<ExprId>> = items.iter().map(|item| self.expr(item)).collect();
        let ids: Vec<ExprId> = ids.into_iter().collect::<Option<_>>()?;
        let Some(first) = ids.first().map(|id| self.shape(*id)) else {
            return self.fail(Diagnostic::error(span, "an empty list has no shape"));
        };
        for (id, item) in ids.iter().zip(items) {
            let shape = self.shape(*id);
            if shape != first {
                let error = Diagnostic::error(item.span, "the elements of a list have one shape");
                return self.fail(error.label(shape.to_string()).also(items[0].span, first.to_string()));
            }
        }
        let shape = match first {
            Shape::Scalar => Shape::Vector(ids.len()),
            Shape::Vector(n) => Shape::Matrix(ids.len(), n),
            Shape::Matrix(..) => {
                return self.fail(Diagnostic::error(span, "a list of matrices has no shape").label(first.to_string()));
            }
        };
        self.push(Kind::List(ids), shape, span)
    }
}
