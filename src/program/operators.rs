//! Builtin operators: derivatives and their shapes.

use super::fold::Operand;
use super::resolver::{Resolver, depends};
use super::types::*;
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::Name;

/// Most elements of a vector that are written out one by one.
const MOST_WRITTEN_OUT: usize = 4096;

/// What the letters after `d_` say.
pub(super) enum Letters {
    Along(Vec<CoordinateRef>),
    Normal,
}

impl<'a> Resolver<'a> {
    /// `lap(u)`, `d(u, x[i], x[j])`, `dot(a, b)` and the like.
    pub fn operator_call(&mut self, name: &Name, operands: &[Operand], span: Span) -> Option<ExprId> {
        let text = name.text.as_str();
        match text {
            "d" => return self.partial(name, operands, span),
            "concat" => return self.concat(operands, span),
            "dot" | "advect" => self.arity(name, operands, 2, &format!("{text}(a, b)"))?,
            _ => self.arity(name, operands, 1, &format!("{text}(u)"))?,
        }
        let (u, place) = operands[0];
        let shape = self.shape(u);
        let (kind, shape) = match text {
            "trace" | "det" => {
                match shape {
                    Shape::Matrix(m, n) if m == n => {}
                    _ => return self.wrong_shape(text, "a square matrix", shape, place),
                }
                let kind = if text == "trace" { Kind::Trace(u) } else { Kind::Determinant(u) };
                (kind, Shape::Scalar)
            }
            "norm2" => (Kind::Norm2(u), Shape::Scalar),
            "dot" => {
                let (v, other) = (operands[1].0, self.shape(operands[1].0));
                let Shape::Vector(_) = shape else {
                    return self.wrong_shape(text, "two vectors", shape, place);
                };
                let Shape::Vector(_) = other else {
                    return self.wrong_shape(text, "two vectors", other, operands[1].1);
                };
                if shape != other {
                    let error = Diagnostic::error(operands[1].1, "`dot` needs two vectors of one length");
                    return self.fail(error.label(other.to_string()).also(place, shape.to_string()));
                }
                (Kind::Dot(u, v), Shape::Scalar)
            }
            _ => {
                let space = self.space(text, span)?;
                self.holds_space(text, operands[0], span)?;
                self.space_operator(text, operands, space)?
            }
        };
        self.push(kind, shape, span)
    }

    /// Numbers and vectors, one after the other, as a list.
    fn concat(&mut self, operands: &[Operand], span: Span) -> Option<ExprId> {
        if operands.is_empty() {
            return self.fail(Diagnostic::error(span, "`concat` needs arguments").note("write `concat(a, b)`"));
        }
        let mut items = Vec::new();
        for (operand, place) in operands {
            let len = match self.shape(*operand) {
                Shape::Scalar => {
                    items.push(*operand);
                    continue;
                }
                Shape::Vector(n) => n,
                shape => return self.wrong_shape("concat", "numbers and vectors", shape, *place),
            };
            if len > MOST_WRITTEN_OUT {
                let error =
                    Diagnostic::error(*place, format!("`concat` writes out at most {MOST_WRITTEN_OUT} elements"));
                return self.fail(error.label(format!("vector[{len}]")));
            }
            for offset in 0..len as i64 {
                let index = IndexExpr { offset, terms: Vec::new() };
                items.push(self.element_of(*operand, index, Shape::Scalar, *place)?);
            }
        }
        let shape = Shape::Vector(items.len());
        self.push(Kind::List(items), shape, span)
    }

    fn space_operator(&mut self, text: &str, operands: &[Operand], space: usize) -> Option<(Kind, Shape)> {
        let (u, place) = operands[0];
        let shape = self.shape(u);
        Some(match text {
            "lap" => (Kind::Laplacian(u), shape),
            "grad" => match shape {
                Shape::Scalar => (Kind::Gradient(u), Shape::Vector(space)),
                Shape::Vector(m) => (Kind::Gradient(u), Shape::Matrix(m, space)),
                Shape::Matrix(..) => {
                    return self.wrong_shape(text, "a scalar or a vector", shape, place);
                }
            },
            "div" => match shape {
                Shape::Vector(n) if n == space => (Kind::Divergence(u), Shape::Scalar),
                _ => {
                    return self.wrong_shape(text, &format!("a vector[{space}], as long as space,"), shape, place);
                }
            },
            "curl" => match (space, shape) {
                (3, Shape::Vector(3)) => (Kind::Curl(u), Shape::Vector(3)),
                (2, Shape::Vector(2)) => (Kind::Curl(u), Shape::Scalar),
                (2, Shape::Scalar) => (Kind::Curl(u), Shape::Vector(2)),
                (3, _) => return self.wrong_shape(text, "a vector[3]", shape, place),
                (2, _) => return self.wrong_shape(text, "a vector[2] or a scalar", shape, place),
                _ => {
                    let message = format!("`curl` needs 2 or 3 space coordinates, here are {space}");
                    return self.fail(Diagnostic::error(place, message));
                }
            },
            "hess" => match shape {
                Shape::Scalar => (Kind::Hessian(u), Shape::Matrix(space, space)),
                _ => return self.wrong_shape(text, "a scalar", shape, place),
            },
            _ => {
                // advect(a, u): a is as long as space, and may be a number on a line.
                let ((a, a_place), (u, place)) = (operands[0], operands[1]);
                match self.shape(a) {
                    Shape::Vector(n) if n == space => {}
                    Shape::Scalar if space == 1 => {}
                    other => {
                        let wanted = format!("a vector[{space}], as long as space, as its first argument");
                        return self.wrong_shape(text, &wanted, other, a_place);
                    }
                }
                match self.shape(u) {
                    shape @ Shape::Matrix(..) => {
                        return self.wrong_shape(text, "a scalar or a vector as its second argument", shape, place);
                    }
                    shape => (Kind::Advection(a, u), shape),
                }
            }
        })
    }

    fn wrong_shape<T>(&mut self, operator: &str, wanted: &str, found: Shape, place: Span) -> Option<T> {
        let error = Diagnostic::error(place, format!("`{operator}` needs {wanted} and gets a {found}"));
        let error = error.label(found.to_string());
        self.fail(match (operator, found) {
            ("div" | "trace", Shape::Scalar) => error.note("the Laplacian of a scalar is `lap(u)`"),
            ("dot", Shape::Scalar) => error.note("numbers are multiplied by `*`"),
            _ => error,
        })
    }

    /// The Laplacian of what no space coordinate enters is 0: surely not what was meant. An operator of the user's,
    /// though, may be applied to a source that is the same everywhere.
    fn holds_space(&mut self, operator: &str, (of, place): Operand, span: Span) -> Option<()> {
        let general = !self.expanding.is_empty() && !self.depends(of, depends::NETWORK);
        if operator != "lap" || general || self.depends(of, depends::SPACE) {
            return Some(());
        }
        let message = format!("`{operator}` of something that has no space coordinate");
        let space: Vec<String> = self.program.space().map(|group| format!("`{}`", group.name)).collect();
        let error = Diagnostic::error(span, message).also(place, "this does not depend on space");
        self.fail(error.note(format!("space is {}", space.join(", "))))
    }

    /// The dimension of space, which must not be 0.
    fn space(&mut self, operator: &str, span: Span) -> Option<usize> {
        self.derivatives_allowed(span)?;
        if !self.space_sound {
            return None;
        }
        match self.program.space_dimension() {
            0 => {
                let message = format!("`{operator}` of something that has no space coordinate");
                self.fail(Diagnostic::error(span, message).note("declare one: `space x`"))
            }
            n => Some(n),
        }
    }

    fn derivatives_allowed(&mut self, span: Span) -> Option<()> {
        if self.space_known {
            return Some(());
        }
        self.fail(Diagnostic::error(span, "the length of a coordinate cannot depend on a derivative"))
    }

    /// `d(u, x[i], x[j])`
    fn partial(&mut self, name: &Name, operands: &[Operand], span: Span) -> Option<ExprId> {
        self.derivatives_allowed(span)?;
        let [(of, _), coordinates @ ..] = operands else {
            return self.arity(name, operands, 2, "d(u, x[i])").and(None);
        };
        if coordinates.is_empty() {
            return self.arity(name, operands, 2, "d(u, x[i])").and(None);
        }
        let along: Vec<_> = coordinates.iter().map(|(id, place)| self.coordinate(*id, *place)).collect();
        let along = along.into_iter().collect::<Option<_>>()?;
        self.push(Kind::Partial { of: *of, along }, self.shape(*of), span)
    }

    /// The expression as one coordinate.
    pub fn coordinate(&mut self, id: ExprId, place: Span) -> Option<CoordinateRef> {
        match &self.program.expr(id).kind {
            Kind::Coordinates(group) => {
                let group = *group;
                let Group { is_vector, name, .. } = &self.program.groups[group.index()];
                if *is_vector {
                    let error = Diagnostic::error(place, format!("`{name}` is a vector of coordinates"));
                    let error = error.note(format!("name one of them: `{name}[0]`, or `{name}[i]` in a sum"));
                    return self.fail(error);
                }
                Some(CoordinateRef { group, index: IndexExpr { offset: 0, terms: Vec::new() } })
            }
            Kind::Element { of, index } => match self.program.expr(*of).kind {
                Kind::Coordinates(group) => Some(CoordinateRef { group, index: index.clone() }),
                _ => self.fail(Diagnostic::error(place, "this is not a coordinate")),
            },
            _ => self.fail(Diagnostic::error(place, "this is not a coordinate").note("such as `x`, `t` or `x[i]`")),
        }
    }

    /// `d_xy(u)`, `d_n(u)`
    pub fn letter_call(&mut self, name: &Name, along: Letters, operands: &[Operand], span: Span) -> Option<ExprId> {
        self.arity(name, operands, 1, &format!("{}(u)", name.text))?;
        let of = operands[0].0;
        let kind = match along {
            Letters::Along(along) => Kind::Partial { of, along },
            Letters::Normal => Kind::NormalDerivative(of),
        };
        self.push(kind, self.shape(of), span)
    }

    /// Splits the letters of `d_xy` into coordinates, the longest names first. `span` is that of `d_xy`.
    pub fn letters(&mut self, letters: &str, span: Span) -> Option<Letters> {
        self.derivatives_allowed(span)?;
        let groups = &self.program.groups;
        let split = split(letters, groups, false);
        if split.is_none() && letters == "n" {
            return Some(Letters::Normal);
        }
        let Some(split) = split.or_else(|| self::split(letters, groups, true)) else {
            let message = match letters {
                "" => "`d_` needs the names of coordinates".to_owned(),
                _ => format!("`{letters}` is not made of the names of coordinates"),
            };
            let names: Vec<String> = groups.iter().map(|group| format!("`{}`", group.name)).collect();
            let error = Diagnostic::error(span, message);
            let error = error.suggest(letters, groups.iter().map(|group| group.name.as_str()));
            return self.fail(match names.is_empty() {
                true => error.note("there are no coordinates"),
                false => error.note(format!("the coordinates are {}", names.join(", "))),
            });
        };
        let mut along = Vec::with_capacity(split.len());
        for group in split {
            let Group { is_vector, name, .. } = &self.program.groups[group.index()];
            if *is_vector {
                let error = Diagnostic::error(span, format!("`{name}` is a vector of coordinates"));
                let error = error.note(format!("write `d(u, {name}[0])`, or `d(u, {name}[i])` in a sum"));
                return self.fail(error);
            }
            self.used_groups[group.index()] = true;
            along.push(CoordinateRef { group, index: IndexExpr { offset: 0, terms: Vec::new() } });
        }
        Some(Letters::Along(along))
    }
}

/// The letters as names of groups, or none. From the end, so that no choice is tried twice.
fn split(letters: &str, groups: &[Group], vectors: bool) -> Option<Vec<GroupId>> {
    let mut next: Vec<Option<usize>> = vec![None; letters.len() + 1];
    for start in (0..letters.len()).rev().filter(|i| letters.is_char_boundary(*i)) {
        let fits = |group: &Group| {
            (vectors || !group.is_vector)
                && letters[start..].starts_with(&group.name)
                && (start + group.name.len() == letters.len() || next[start + group.name.len()].is_some())
        };
        let candidates = groups.iter().enumerate().filter(|(_, group)| fits(group));
        next[start] = candidates.max_by_key(|(_, group)| group.name.len()).map(|(i, _)| i);
    }
    let (mut start, mut result) = (0, Vec::new());
    while start < letters.len() {
        let group = next[start]?;
        result.push(GroupId(group as u32));
        start += groups[group].name.len();
    }
    (!result.is_empty()).then_some(result)
}
