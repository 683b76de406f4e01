//! Reads the text form of a [`JetProgram`] (see `text`). Only the form is checked; the rules are [`JetProgram::types`]'.

use super::text::{BINARY, FOLDS, UNARY};
use super::types::*;
use std::str::FromStr;
use thiserror::Error;

/// Text that is no program.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {message}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// What was expected.
    pub message: String,
}

/// Loops inside loops, at most.
const DEPTH: usize = 256;

impl FromStr for JetProgram {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let lines: Result<Vec<Line>, ParseError> = text
            .lines()
            .enumerate()
            .map(|(k, line)| Line::new(k + 1, line))
            .filter(|line| line.as_ref().map_or(true, |line| !line.tokens.is_empty()))
            .collect();
        let mut parser = Parser { lines: lines?, at: 0 };
        let mut program = JetProgram::default();
        let mut header = parser.next("a program")?;
        header.word("program")?;
        program.name = header.string()?;
        header.word("columns")?;
        program.columns = header.number()?;
        header.word("data")?;
        program.data_columns = header.number()?;
        header.end()?;
        while parser.peek().is_some() {
            parser.item(&mut program)?;
        }
        Ok(program)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Atom(String),
    Text(String),
    Mark(char),
}

/// The tokens of a line, and how many of them are read.
#[derive(Clone, Debug)]
struct Line {
    number: usize,
    tokens: Vec<Token>,
    at: usize,
}

type Parsed<T = ()> = Result<T, ParseError>;

impl Line {
    fn new(number: usize, text: &str) -> Parsed<Self> {
        let mut line = Line { number, tokens: Vec::new(), at: 0 };
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c.is_whitespace() {
                continue;
            } else if c == '"' {
                let token = unquote(&mut chars).ok_or_else(|| line.error("a closed string"))?;
                line.tokens.push(Token::Text(token));
            } else if "[],=*+".contains(c) {
                line.tokens.push(Token::Mark(c));
            } else {
                let mut atom = String::from(c);
                while let Some(c) = chars.next_if(|c| !c.is_whitespace() && !"[],=*+\"".contains(*c)) {
                    atom.push(c);
                }
                line.tokens.push(Token::Atom(atom));
            }
        }
        Ok(line)
    }

    fn error(&self, expected: &str) -> ParseError {
        let found = match self.tokens.get(self.at) {
            None => "the end of the line".into(),
            Some(Token::Atom(text)) => format!("`{text}`"),
            Some(Token::Text(text)) => format!("{text:?}"),
            Some(Token::Mark(c)) => format!("`{c}`"),
        };
        ParseError { line: self.number, message: format!("expected {expected}, found {found}") }
    }

    /// Reads the next token, if `read` can.
    fn read<T>(&mut self, expected: &str, read: impl FnOnce(&Token) -> Option<T>) -> Parsed<T> {
        let result = self.tokens.get(self.at).and_then(read).ok_or_else(|| self.error(expected))?;
        self.at += 1;
        Ok(result)
    }

    fn word(&mut self, word: &str) -> Parsed {
        self.read(&format!("`{word}`"), |t| (*t == Token::Atom(word.into())).then_some(()))
    }

    fn mark(&mut self, mark: char) -> Parsed {
        self.read(&format!("`{mark}`"), |t| (*t == Token::Mark(mark)).then_some(()))
    }

    /// True, and read, if the next token is this word.
    fn has(&mut self, word: &str) -> bool {
        self.word(word).is_ok()
    }

    fn string(&mut self) -> Parsed<String> {
        self.read("a string", |t| if let Token::Text(text) = t { Some(text.clone()) } else { None })
    }

    fn atom<T>(&mut self, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Parsed<T> {
        self.read(expected, |t| if let Token::Atom(text) = t { read(text) } else { None })
    }

    fn number<T: FromStr>(&mut self) -> Parsed<T> {
        self.atom("a number", |text| text.parse().ok())
    }

    /// A number after a letter: `%3`.
    fn id(&mut self, prefix: char) -> Parsed<u32> {
        self.atom(&format!("`{prefix}` and a number"), |text| text.strip_prefix(prefix)?.parse().ok())
    }

    fn value(&mut self) -> Parsed<ValueId> {
        self.id('%').map(ValueId)
    }

    /// As many as there are.
    fn values(&mut self) -> Vec<ValueId> {
        std::iter::from_fn(|| self.value().ok()).collect()
    }

    fn tensor(&mut self) -> Parsed<TensorId> {
        self.id('t').map(TensorId)
    }

    fn algebra(&mut self) -> Parsed<AlgebraId> {
        self.id('a').map(AlgebraId)
    }

    /// An entry of a table of names.
    fn named<T: Copy>(&mut self, expected: &str, table: &[(&str, T)]) -> Parsed<T> {
        self.atom(expected, |text| table.iter().find(|entry| entry.0 == text).map(|entry| entry.1))
    }

    fn address(&mut self) -> Parsed<Address> {
        let mut address = Address { offset: self.number()?, ..Default::default() };
        while self.mark('+').is_ok() {
            if let Ok(register) = self.id('r') {
                address.register = Some(register);
                break;
            }
            let c = self.number()?;
            self.mark('*')?;
            address.terms.push((self.id('i')?, c));
        }
        Ok(address)
    }

    /// `[row, feature]`
    fn place(&mut self) -> Parsed<(Address, Address)> {
        self.mark('[')?;
        let row = self.address()?;
        self.mark(',')?;
        let feature = self.address()?;
        self.mark(']')?;
        Ok((row, feature))
    }

    fn end(&self) -> Parsed {
        if self.at == self.tokens.len() { Ok(()) } else { Err(self.error("the end of the line")) }
    }
}

/// The rest of a string, as `{:?}` quotes it.
fn unquote(chars: &mut impl Iterator<Item = char>) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => text.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '0' => '\0',
                'u' => {
                    let code: String = chars.skip_while(|c| *c == '{').take_while(|c| *c != '}').collect();
                    char::from_u32(u32::from_str_radix(&code, 16).ok()?)?
                }
                c => c,
            }),
            c => text.push(c),
        }
    }
}

struct Parser {
    lines: Vec<Line>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Line> {
        self.lines.get(self.at)
    }

    fn next(&mut self, expected: &str) -> Parsed<Line> {
        let line = self.peek().cloned().ok_or_else(|| ParseError {
            line: self.lines.last().map_or(1, |l| l.number),
            message: format!("expected {expected}, found the end of the text"),
        })?;
        self.at += 1;
        Ok(line)
    }

    /// The next line, if it begins with this word (which is read).
    fn next_if(&mut self, word: &str) -> Option<Line> {
        let mut line = self.peek()?.clone();
        line.has(word).then(|| {
            self.at += 1;
            line
        })
    }

    /// One tensor, algebra, operation, output or gradient.
    fn item(&mut self, program: &mut JetProgram) -> Parsed {
        let mut line = self.next("an item")?;
        if line.has("output") {
            let name = line.string()?;
            line.mark('=')?;
            program.outputs.push((name, line.value()?));
        } else if line.has("gradient") {
            let tensor = line.tensor()?;
            line.mark('=')?;
            program.gradients.push((tensor, line.value()?));
        } else if let Ok(id) = line.tensor() {
            in_order(&line, id.index(), program.tensors.len())?;
            line.mark('=')?;
            line.word("tensor")?;
            let name = line.string()?;
            line.mark('[')?;
            let mut shape = Vec::new();
            while line.mark(']').is_err() {
                if !shape.is_empty() {
                    line.mark(',')?;
                }
                shape.push(line.number()?);
            }
            program.tensors.push(Tensor { name, shape, learned: line.has("learned") });
        } else if let Ok(id) = line.algebra() {
            in_order(&line, id.index(), program.algebras.len())?;
            line.mark('=')?;
            line.word("algebra")?;
            line.word("rows")?;
            let rows = line.number()?;
            line.word("order")?;
            let order = line.number()?;
            program.algebras.push(Algebra { rows, order, entries: self.entries()? });
        } else {
            let id = line.value()?;
            in_order(&line, id.index(), program.ops.len())?;
            line.mark('=')?;
            let op = self.operation(&mut line)?;
            program.ops.push(op);
        }
        line.end()
    }

    fn entries(&mut self) -> Parsed<Vec<Entry>> {
        let mut entries = Vec::new();
        while let Some(mut line) = self.next_if("entry") {
            let (out, a, b) = (line.number()?, line.number()?, line.number()?);
            line.mark('=')?;
            let c = match line.has("varying") {
                true => Coefficient::Varying(line.number()?),
                false => Coefficient::Constant(line.number()?),
            };
            line.end()?;
            entries.push(Entry { out, a, b, c });
        }
        Ok(entries)
    }

    fn operation(&mut self, line: &mut Line) -> Parsed<Op> {
        let kind = line.atom("an operation", |text| Some(text.to_string()))?;
        let coefficients = |line: &mut Line| line.has("with").then(|| line.value()).transpose();
        Ok(match kind.as_str() {
            "points" => Op::Points,
            "data" => Op::Data,
            "given" => {
                let number = line.number()?;
                line.word("rows")?;
                let rows = line.number()?;
                line.word("features")?;
                Op::Given { number, rows, features: line.number()? }
            }
            "sample" => {
                let k = line.number()?;
                line.word("of")?;
                let len = line.number()?;
                line.word("from")?;
                let first = line.number()?;
                line.word("stream")?;
                Op::Sample { stream: line.number()?, first, len, k, shared: line.has("shared") }
            }
            "sample_weighted" => {
                let k = line.number()?;
                line.word("by")?;
                let weights = line.value()?;
                line.word("from")?;
                let first = [line.number()?, line.number()?];
                line.word("stream")?;
                Op::SampleWeighted { stream: line.number()?, weights, k, first }
            }
            "directions" => {
                let k = line.number()?;
                line.word("of")?;
                let len = line.number()?;
                line.word("stream")?;
                Op::Directions { stream: line.number()?, len, k, gaussian: line.has("gaussian") }
            }
            "pointwise" => {
                line.word("rows")?;
                let rows = line.number()?;
                line.word("features")?;
                let features = line.number()?;
                line.word("reads")?;
                let mut inputs = Vec::new();
                while line.end().is_err() {
                    inputs.push(match line.value() {
                        Ok(value) => Source::Value(value),
                        Err(_) => Source::Tensor(line.tensor()?),
                    });
                }
                Op::Pointwise(Pointwise { inputs, rows, features, code: self.block(&mut 0, 0)? })
            }
            "lift" => {
                let points = line.value()?;
                line.word("from")?;
                let first = line.number()?;
                line.word("features")?;
                let features = line.number()?;
                line.word("rows")?;
                let rows = line.number()?;
                line.word("draws")?;
                let mut samples = Vec::new();
                loop {
                    if line.has("points") {
                        samples.push(Draw::Points);
                        continue;
                    }
                    let Ok(value) = line.value() else { break };
                    samples.push(if line.has("row") {
                        Draw::Columns { value, row: line.number()? }
                    } else {
                        line.word("at")?;
                        Draw::Directions { value, first: line.number()? }
                    });
                }
                Op::Lift { points, first, features, rows, seeds: self.seeds()?, samples }
            }
            "share" => Op::Share { x: line.value()?, weight: line.tensor()?, bias: line.tensor()? },
            "share_adjoint" => {
                let (bar, x) = (line.value()?, line.value()?);
                line.word("block")?;
                Op::ShareAdjoint { bar, x, block: line.number()? }
            }
            "linear" => Op::Linear { x: line.value()?, weight: line.tensor()?, bias: line.tensor()? },
            "linear_part" => Op::LinearPart { x: line.value()?, weight: line.tensor()? },
            "term" => {
                let activation = line.named("an activation", &Activation::NAMES)?;
                let y = line.values();
                line.word("of")?;
                Op::Term { x: line.values(), y, activation }
            }
            "term_adjoint" => {
                let activation = line.named("an activation", &Activation::NAMES)?;
                let y = line.values();
                line.word("of")?;
                let x = line.values();
                line.word("at")?;
                Op::TermAdjoint { x, y, bars: line.values(), activation }
            }
            "activate" => {
                let activation = line.named("an activation", &Activation::NAMES)?;
                let (x, algebra) = (line.value()?, line.algebra()?);
                Op::Activate { x, algebra, activation, coefficients: coefficients(line)? }
            }
            "factor" => {
                let weight = line.tensor()?;
                line.word("from")?;
                let first = line.number()?;
                line.word("features")?;
                let len = line.number()?;
                line.word("rank")?;
                Op::Factor { weight, first, len, rank: line.number()? }
            }
            "inject" => {
                let (x, factor) = (line.value()?, line.value()?);
                Op::Inject { x, factor, directions: coefficients(line)?, seeds: self.seeds()? }
            }
            "inject_adjoint" => {
                let (bar, factor) = (line.value()?, line.value()?);
                Op::InjectAdjoint { bar, factor, directions: coefficients(line)?, seeds: self.seeds()? }
            }
            "factor_adjoint" => Op::FactorAdjoint { factor: line.value()?, bar: line.value()? },
            "linear_adjoint" => Op::LinearAdjoint { bar: line.value()?, weight: line.tensor()? },
            "weight_adjoint" => Op::WeightAdjoint { bar: line.value()?, x: line.value()? },
            "bias_adjoint" => Op::BiasAdjoint { bar: line.value()? },
            "activate_adjoint" => {
                let activation = line.named("an activation", &Activation::NAMES)?;
                let (x, bar, algebra) = (line.value()?, line.value()?, line.algebra()?);
                Op::ActivateAdjoint { x, bar, algebra, activation, coefficients: coefficients(line)? }
            }
            "coefficient_adjoint" => {
                let activation = line.named("an activation", &Activation::NAMES)?;
                let (x, bar, algebra) = (line.value()?, line.value()?, line.algebra()?);
                line.word("with")?;
                Op::CoefficientAdjoint { x, bar, algebra, activation, coefficients: line.value()? }
            }
            "add" => Op::Add { a: line.value()?, b: line.value()? },
            "mean" => Op::Mean { x: line.value()?, scalar: line.has("scalar") },
            _ => {
                line.at -= 1;
                return Err(line.error("an operation"));
            }
        })
    }

    fn seeds(&mut self) -> Parsed<Vec<Seed>> {
        let mut seeds = Vec::new();
        while let Some(mut line) = self.next_if("seed") {
            let (row, at) = (line.number()?, line.number()?);
            let sample = line.has("of").then(|| line.number()).transpose()?;
            line.mark('=')?;
            let value = line.number()?;
            line.end()?;
            seeds.push(Seed { row, at, sample, value });
        }
        Ok(seeds)
    }

    /// Instructions up to an `end`, or to a line that begins an item of the program.
    fn block(&mut self, next: &mut Register, depth: usize) -> Parsed<Vec<Instruction>> {
        let mut code = Vec::new();
        while let Some(line) = self.peek() {
            let mut line = line.clone();
            if line.has("store") {
                let (row, feature) = line.place()?;
                code.push(Instruction::Store { row, feature, value: line.id('r')? });
            } else if line.has("loop") {
                if depth == DEPTH {
                    return Err(line.error(&format!("at most {DEPTH} loops inside each other")));
                }
                let var = line.id('i')?;
                line.word("from")?;
                let lo = line.number()?;
                line.word("to")?;
                let hi = line.number()?;
                line.end()?;
                self.at += 1;
                let body = self.block(next, depth + 1)?;
                line = self.next("`end`")?;
                self.at -= 1;
                line.word("end")?;
                let mut reductions = Vec::new();
                while line.end().is_err() {
                    define(&mut line, next)?;
                    let fold = line.named("`sum` or `max`", &FOLDS)?;
                    reductions.push((fold, line.id('r')?));
                }
                code.push(Instruction::Loop { var, lo, hi, body, reductions });
            } else if line.id('r').is_ok() {
                line.at = 0;
                define(&mut line, next)?;
                code.push(instruction(&mut line)?);
            } else {
                break;
            }
            line.end()?;
            self.at += 1;
        }
        Ok(code)
    }
}

/// `r3 =`, where 3 is the next register.
fn define(line: &mut Line, next: &mut Register) -> Parsed {
    let id = line.id('r')?;
    in_order(line, id as usize, *next as usize)?;
    *next += 1;
    line.mark('=')
}

/// What stands behind `r3 =`.
fn instruction(line: &mut Line) -> Parsed<Instruction> {
    if let Ok(constant) = line.number() {
        return Ok(Instruction::Constant(constant));
    }
    if line.has("load") {
        let input = line.number()?;
        let (row, feature) = line.place()?;
        return Ok(Instruction::Load { input, row, feature });
    }
    if line.has("index") {
        return Ok(Instruction::Index(line.address()?));
    }
    if let Ok(function) = line.named("", &UNARY) {
        return Ok(Instruction::Unary(function, line.id('r')?));
    }
    let function = line.named("an instruction", &BINARY)?;
    Ok(Instruction::Binary(function, line.id('r')?, line.id('r')?))
}

fn in_order(line: &Line, found: usize, expected: usize) -> Parsed {
    if found == expected {
        return Ok(());
    }
    Err(ParseError { line: line.number, message: format!("expected number {expected}, found {found}") })
}
