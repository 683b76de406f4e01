//! Calls in expressions: which function is meant, networks, functions of numbers, user-defined operators.

use super::fold::Operand;
use super::names::{Declared, FUNCTIONS, OPERATORS};
use super::resolver::{Binding, Resolver};
use super::types::*;
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::{Argument, Name};

impl<'a> Resolver<'a> {
    /// Resolves a call.
    pub fn call(&mut self, name: &'a Name, arguments: &'a [Argument], span: Span) -> Option<ExprId> {
        let text = name.text.as_str();
        let network = match self.symbols.get(text) {
            Some(symbol) => match symbol.declared {
                Declared::Net(id, _) => Some((id, symbol.sound)),
                _ => None,
            },
            None => None,
        };
        if let Some(operator) = self.operators.get_index_of(text) {
            self.expand(operator, name, arguments, span)
        } else if let Some((net, sound)) = network {
            let operands = self.operands(name, arguments);
            self.network(net, operands.filter(|_| sound)?, span)
        } else if OPERATORS.contains(&text) {
            let operands = self.operands(name, arguments)?;
            self.operator_call(name, &operands, span)
        } else if let Some((_, function)) = FUNCTIONS.iter().find(|(known, _)| *known == text) {
            let operands = self.operands(name, arguments)?;
            self.function_call(name, *function, &operands, span)
        } else if let Some(letters) = text.strip_prefix("d_") {
            let operands = self.operands(name, arguments);
            let along = self.letters(letters, name.span);
            self.letter_call(name, along?, &operands?, span)
        } else {
            let unknown = self.unknown_function(text, name.span);
            let unknown = match text {
                "sum" => unknown.note("write `sum(i in 0..n: term)`"),
                _ => unknown,
            };
            self.report(unknown);
            self.operands(name, arguments);
            None
        }
    }

    /// The arguments of a function: values without names.
    fn operands(&mut self, name: &Name, arguments: &'a [Argument]) -> Option<Vec<Operand>> {
        let mut operands = Vec::with_capacity(arguments.len());
        let mut sound = true;
        for argument in arguments {
            if let Some(option) = &argument.name {
                let message = format!("`{}` takes no named arguments", name.text);
                self.report(Diagnostic::error(option.span, message));
                sound = false;
            } else if let Some(end) = &argument.end {
                self.report(Diagnostic::error(argument.value.span.to(end.span), "a range is not a value"));
                sound = false;
            }
            match self.expr(&argument.value) {
                Some(id) => operands.push((id, argument.value.span)),
                None => sound = false,
            }
        }
        sound.then_some(operands)
    }

    /// An error unless there are so many arguments.
    pub fn arity(&mut self, name: &Name, operands: &[Operand], wanted: usize, form: &str) -> Option<()> {
        if operands.len() == wanted {
            return Some(());
        }
        let arguments = if wanted == 1 { "argument" } else { "arguments" };
        let message = format!("`{}` takes {wanted} {arguments}, here it has {}", name.text, operands.len());
        self.fail(Diagnostic::error(name.span, message).note(format!("write `{form}`")))
    }

    pub fn network(&mut self, id: NetId, operands: Vec<Operand>, span: Span) -> Option<ExprId> {
        let name = self.program.nets[id.index()].name.clone();
        if operands.is_empty() {
            let message = format!("the network `{name}` needs arguments");
            return self.fail(Diagnostic::error(span, message).note("apply it to coordinates: `N(x, t)`"));
        }
        self.used_nets[id.index()] = true;
        let mut inputs: usize = 0;
        for (argument, place) in &operands {
            if let shape @ Shape::Matrix(..) = self.shape(*argument) {
                let error = Diagnostic::error(*place, "a network takes numbers and vectors");
                return self.fail(error.label(shape.to_string()));
            }
            inputs = inputs.saturating_add(self.program.input_count(*argument));
        }
        let net = &mut self.program.nets[id.index()];
        let (known, outputs) = (net.inputs, net.outputs);
        match self.first_use[id.index()] {
            None => {
                net.inputs = inputs;
                self.first_use[id.index()] = Some(self.origin.as_ref().map_or(span, |(place, _)| *place));
            }
            Some(first) if known != inputs => {
                let message = format!("the network `{name}` has {known} inputs, here it gets {inputs}");
                return self.fail(Diagnostic::error(span, message).also(first, format!("{known} inputs here")));
            }
            Some(_) => {}
        }
        let arguments = operands.into_iter().map(|(argument, _)| argument).collect();
        let shape = if outputs == 1 { Shape::Scalar } else { Shape::Vector(outputs) };
        self.push(Kind::Network { net: id, arguments }, shape, span)
    }

    fn function_call(&mut self, name: &Name, function: Function, operands: &[Operand], span: Span) -> Option<ExprId> {
        let two = matches!(function, Function::Min | Function::Max);
        let text = name.text.as_str();
        let form = if two { format!("{text}(a, b)") } else { format!("{text}(a)") };
        self.arity(name, operands, if two { 2 } else { 1 }, &form)?;
        for (id, place) in operands {
            let shape = self.shape(*id);
            if shape != Shape::Scalar {
                let message = format!("`{text}` acts on numbers, this is a {shape}");
                return self.fail(Diagnostic::error(*place, message).label(shape.to_string()));
            }
        }
        self.function_of(function, operands, span)
    }

    /// Resolves the body of an operator with its parameters bound to the arguments, and no other local name visible.
    fn expand(&mut self, index: usize, name: &'a Name, arguments: &'a [Argument], span: Span) -> Option<ExprId> {
        let operator = self.operators[index];
        let operands = self.operands(name, arguments)?;
        let parameters: Vec<&str> = operator.parameters.iter().map(|p| p.text.as_str()).collect();
        let form = format!("{}({})", name.text, parameters.join(", "));
        self.arity(name, &operands, operator.parameters.len(), &form)?;
        if !operator.sound {
            return None;
        }
        let key = (index, operands.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        if let Some(known) = self.expanded.get(&key) {
            return *known;
        }
        let bind = |(parameter, (id, _)): (&'a Name, &Operand)| {
            (parameter.text.as_str(), parameter.span, Binding::Value(Some(*id)))
        };
        let inner = operator.parameters.iter().zip(&operands).map(bind).collect();
        let outer = std::mem::replace(&mut self.locals, inner);
        self.expanding.push((&name.text, span));
        let origin = self.origin.take();
        let result = self.expr(operator.body);
        self.origin = origin;
        self.expanding.pop();
        self.locals = outer;
        self.expanded.insert(key, result);
        result
    }
}
