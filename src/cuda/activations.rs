//! Activations in an algebra and their adjoints: a function per algebra, activation and task, called by a thread for each point
//! and neuron. Straight code with all rows in registers for modest algebras, loops over a table for large ones.

use super::emitter::Emitter;
use super::text::Text;
use crate::jet::powers::{Factor, Powers};
use crate::jet::{Activation, AlgebraId, Op, ValueId};

/// Lanes and products of straight code, at most: what the registers of a thread hold, and what NVRTC compiles in no time.
const LANES: usize = 64;
const PRODUCTS: usize = 300;

#[derive(Clone, Copy, PartialEq)]
enum Task {
    Forward,
    Adjoint,
    Constants,
}

impl Emitter<'_> {
    pub fn activate(&mut self, k: usize) {
        let (x, algebra, activation, coefficients, bar) = match self.program.ops[k].clone() {
            Op::Activate { x, algebra, activation, coefficients } => (x, algebra, activation, coefficients, None),
            Op::ActivateAdjoint { x, bar, algebra, activation, coefficients } => {
                (x, algebra, activation, coefficients, Some(bar))
            }
            Op::CoefficientAdjoint { x, bar, algebra, activation, coefficients } => {
                return self.coefficient_adjoint(k, x, bar, algebra, activation, coefficients);
            }
            _ => return,
        };
        let task = if bar.is_some() { Task::Adjoint } else { Task::Forward };
        let function = self.function(algebra, activation, task);
        let (features, pitch) = (self.shape(x).1, self.pitch(x));
        let coefficients = coefficients.filter(|_| self.powers[algebra.index()].varying > 0);
        let coefficients = coefficients.map_or(String::new(), |c| format!(", v{} + m * {}", c.0, self.pitch(c)));
        let bar = bar.map_or(String::new(), |b| format!("v{} + at, ", b.0));
        let x = x.0;
        self.each(1, features, |e| {
            e.line(format!("const int at = m * {pitch} + f;"));
            e.line(format!("{function}(v{x} + at, {bar}v{k} + at, n * {pitch}{coefficients});"));
        });
    }

    /// A coefficient of an activation along a curve, or the adjoint of one.
    pub fn term(&mut self, k: usize, activation: Activation, [x, y, bars]: [&[ValueId]; 3]) {
        let (sigma, features) = (sigma(activation), self.shape(ValueId(k as u32)).1);
        let needed = self.program.ops[k].arguments();
        let read = |e: &Self, name: &str, values: &[ValueId]| {
            let at = |v: &ValueId| match needed.contains(v) {
                true => format!("v{}[m * {} + f]", v.0, e.pitch(*v)),
                false => "0".into(),
            };
            let all: Vec<String> = values.iter().map(at).collect();
            let all = if all.is_empty() { "0".into() } else { all.join(", ") };
            format!("const real {name}[] = {{{all}}};")
        };
        let count = if bars.is_empty() { y.len() } else { bars.len() };
        let result = format!("v{k}[m * {} + f]", self.pitch(ValueId(k as u32)));
        let lines = [read(self, "x", x), read(self, "y", y), read(self, "bar", bars)];
        self.each(1, features, |e| {
            e.line(&lines[0]);
            if count == 0 {
                e.line(format!("taylor_{sigma}<1>(x[0], &{result});"));
                return;
            }
            e.line(&lines[1]);
            e.line(format!("real d[{count}];"));
            if activation.is_autonomous() {
                e.line(format!("slope_{sigma}<{count}>(x, y, d);"));
            } else {
                e.line(format!("real s[{}];", count + 1));
                e.line(format!("taylor_{sigma}<{}>(x[0], s);", count + 1));
                e.line(format!("slope_of<{count}>(s, x, d);"));
            }
            if bars.is_empty() {
                e.line(format!("{result} = term_of<{count}>(x, d);"));
            } else {
                e.line(&lines[2]);
                e.line(format!("{result} = term_adjoint<{count}>(d, bar);"));
            }
        });
    }

    fn coefficient_adjoint(
        &mut self,
        k: usize,
        x: ValueId,
        bar: ValueId,
        algebra: AlgebraId,
        activation: Activation,
        coefficients: ValueId,
    ) {
        let function = self.function(algebra, activation, Task::Constants);
        let (features, pitch, c_pitch) = (self.shape(x).1, self.pitch(x), self.pitch(coefficients));
        let (m, y_pitch) = (self.shape(ValueId(k as u32)).1, self.pitch(ValueId(k as u32)));
        let (x, bar, c) = (x.0, bar.0, coefficients.0);
        if m == 0 {
            return;
        }
        self.line("for (int p = threadIdx.x / 32; p < n; p += blockDim.x / 32) {");
        self.line(format!("real q[{m}] = {{}};"));
        self.line(format!("for (int f = threadIdx.x % 32; f < {features}; f += 32) {{"));
        self.line(format!("const int at = p * {pitch} + f;"));
        self.line(format!("{function}(v{x} + at, v{bar} + at, q, n * {pitch}, v{c} + p * {c_pitch});"));
        self.line("}");
        self.line(format!("for (int u = 0; u < {m}; ++u) {{"));
        self.line("const real sum = warp_sum(q[u]);");
        self.line(format!("if (threadIdx.x % 32 == 0) v{k}[p * {y_pitch} + u] = sum;"));
        self.line("}");
        self.line("}");
    }

    /// The name of the function, which is declared where it is not yet.
    fn function(&mut self, algebra: AlgebraId, activation: Activation, task: Task) -> String {
        let sigma = sigma(activation);
        let suffix = match task {
            Task::Forward => "",
            Task::Adjoint => "_adjoint",
            Task::Constants => "_constants",
        };
        let name = format!("a{}_{sigma}{suffix}", algebra.0);
        if !self.declared.insert(name.clone()) {
            return name;
        }
        let powers = self.powers[algebra.index()].clone();
        let straight = powers.lanes <= LANES && powers.terms.len() + powers.entries.len() <= PRODUCTS;
        let star = star(&powers).filter(|_| !straight && task != Task::Constants);
        if !straight && star.is_none() {
            self.table(algebra.index());
        }
        let star = star.map(|scale| (powers.rows, self.literal(scale)));
        let text = std::mem::take(&mut self.declarations);
        let mut code = Code { emitter: self, powers: &powers, text };
        code.head(&name, algebra, sigma, task);
        let order = powers.order;
        let terms = if task == Task::Adjoint { order + 2 } else { order + 1 };
        code.text.line(format!("real s[{terms}];"));
        code.text.line(format!("taylor_{sigma}<{terms}>(x[0], s);"));
        if task == Task::Adjoint {
            code.text.line(format!("for (int k = 2; k < {terms}; ++k) s[k] *= k;"));
        }
        match (task, straight) {
            (Task::Forward, _) if let Some((rows, scale)) = &star => {
                code.text.line(format!("star_apply<{rows}>(s, {scale}, x, y, stride);"));
            }
            (Task::Adjoint, _) if let Some((rows, scale)) = &star => {
                code.text.line(format!("star_transpose<{rows}>(s + 1, {scale}, x, bar, y, stride);"));
            }
            (Task::Forward, true) => code.forward(),
            (Task::Adjoint, true) => code.adjoint(),
            (Task::Constants, true) if powers.order < 2 => {}
            (Task::Constants, true) => code.constants(),
            (Task::Forward, false) => {
                code.text.line(format!("a{}_table().apply(s, x, y, stride, c);", algebra.0));
            }
            (Task::Adjoint, false) => {
                code.text.line(format!("a{}_table().transpose(s + 1, x, bar, y, stride, c);", algebra.0));
            }
            (Task::Constants, false) => {
                code.text.line(format!("a{}_table().constants(s, x, bar, stride, c, y);", algebra.0));
            }
        }
        code.text.line("}");
        code.text.line("");
        self.declarations = code.text;
        name
    }

    /// The structure table of a large algebra, as constants.
    fn table(&mut self, k: usize) {
        if !self.declared.insert(format!("a{k}_table")) {
            return;
        }
        let powers = self.powers[k].clone();
        let term = |e: &Self, out: usize, a: usize, b: usize, f: &Factor| {
            let varying = f.varying.map_or(-1, |v| v as i64);
            format!("{{{out}, {a}, {b}, {varying}, {}}}", e.literal(f.scale))
        };
        let terms: Vec<String> = powers.terms.iter().map(|t| term(self, t.out, t.a, t.b, &t.factor)).collect();
        let entries: Vec<String> = powers.entries.iter().map(|(o, a, b, f)| term(self, *o, *a, *b, f)).collect();
        let mut starts = vec!["0".to_string()];
        let mut rows = Vec::new();
        for row in &powers.powers {
            rows.extend(row.iter().map(|(k, lane)| format!("{{{k}, {lane}}}")));
            starts.push(rows.len().to_string());
        }
        let (term_count, entry_count) = (terms.len(), entries.len());
        self.constant("Term", &format!("a{k}_terms"), &terms);
        self.constant("Term", &format!("a{k}_entries"), &entries);
        self.constant("int", &format!("a{k}_starts"), &starts);
        self.constant("Power", &format!("a{k}_powers"), &rows);
        let (rows, order, lanes) = (powers.rows, powers.order, powers.lanes - powers.rows);
        let table = format!("Table<{rows}, {order}, {lanes}>");
        self.declarations.line(format!("__device__ inline {table} a{k}_table() {{"));
        self.declarations.line(format!(
            "return {table}{{a{k}_terms, {term_count}, a{k}_starts, a{k}_powers, a{k}_entries, {entry_count}}};"
        ));
        self.declarations.line("}");
        self.declarations.line("");
    }

    /// An array of constants, of one element where there is none.
    pub fn constant(&mut self, of: &str, name: &str, elements: &[String]) {
        let count = elements.len().max(1);
        self.declarations.line(format!("CONSTANT {of} {name}[{count}] = {{"));
        let mut line = String::new();
        for element in elements {
            if line.len() + element.len() > 110 {
                self.declarations.line(line.trim_end());
                line.clear();
            }
            line += &format!("{element}, ");
        }
        if !line.is_empty() {
            self.declarations.line(line.trim_end());
        }
        self.declarations.line("};");
    }
}

/// The scale of an algebra whose only products are squares of its rows, added up in the last one: that of a Laplacian.
fn star(powers: &Powers) -> Option<f64> {
    let last = powers.rows.checked_sub(1)?;
    let scale = powers.entries.first()?.3.scale;
    let is_square = |a: usize, b: usize, f: &Factor, at: usize| {
        (a, b) == (at + 1, at + 1) && f.varying.is_none() && f.scale == scale
    };
    let entries = powers.entries.iter().enumerate().all(|(k, (o, a, b, f))| *o == last && is_square(*a, *b, f, k));
    let terms = powers.terms.iter().enumerate().all(|(k, t)| t.out == powers.rows && is_square(t.a, t.b, &t.factor, k));
    let rows = last > 1 && powers.entries.len() == last - 1 && powers.terms.len() == last - 1;
    let lanes = powers.order == 2 && powers.powers[last] == [(2, powers.rows)];
    (entries && terms && rows && lanes).then_some(scale)
}

/// As the functions are named.
fn sigma(activation: Activation) -> &'static str {
    match activation {
        Activation::Tanh => "tanh",
        Activation::Sin => "sin",
        Activation::Sigmoid => "sigmoid",
        Activation::Softplus => "softplus",
        Activation::Gelu => "gelu",
        Activation::Swish => "swish",
        Activation::Exp => "exp",
        Activation::Identity => "identity",
        Activation::Relu => "relu",
    }
}

/// Straight code: x1, x2, ... are rows of the argument and of its powers, b0, b1, ... of the adjoint.
struct Code<'a, 'b> {
    emitter: &'a Emitter<'b>,
    powers: &'a Powers,
    text: Text,
}

impl Code<'_, '_> {
    fn head(&mut self, name: &str, algebra: AlgebraId, sigma: &str, task: Task) {
        let what = match task {
            Task::Forward => format!("y = {sigma}(x)"),
            Task::Adjoint => format!("y = the transposed product with the derivative of {sigma} at x, of bar"),
            Task::Constants => format!("y += the adjoint of the varying structure constants of {sigma}(x)"),
        };
        self.text.line(format!("// {what}, in algebra a{}: rows are `stride` apart.", algebra.0));
        let bar = if task == Task::Forward { "" } else { "const real* bar, " };
        let c = if self.powers.varying > 0 { ", const real* c" } else { "" };
        self.text.line(format!("__device__ NOINLINE void {name}(const real* x, {bar}real* y, int stride{c}) {{"));
        if self.powers.varying == 0 {
            self.text.line("const real* const c = nullptr;");
            self.text.line("(void)c;");
        }
    }

    fn factor(&self, f: &Factor) -> String {
        let scale = if f.scale == 1.0 { String::new() } else { format!("{} * ", self.emitter.literal(f.scale)) };
        let varying = f.varying.map_or(String::new(), |v| format!("c[{v}] * "));
        scale + &varying
    }

    /// Rows beyond 0 of the argument, and its powers.
    fn powers(&mut self) {
        for r in 1..self.powers.rows {
            self.text.line(format!("const real x{r} = x[{r} * stride];"));
        }
        let mut at = 0;
        while let Some(term) = self.powers.terms.get(at) {
            let same = self.powers.terms[at..].iter().take_while(|t| t.out == term.out);
            let products: Vec<String> =
                same.map(|t| format!("{}x{} * x{}", self.factor(&t.factor), t.a, t.b)).collect();
            self.text.line(format!("const real x{} = {};", term.out, products.join(" + ")));
            at += products.len();
        }
    }

    /// Row r > 0 of sum over k <= count of s[shift + k] n^k.
    fn element(&self, r: usize, shift: usize, count: usize) -> String {
        let powers = self.powers.powers[r].iter().take_while(|p| p.0 <= count);
        let first = (count > 0).then(|| format!("s[{}] * x{r}", shift + 1));
        let all: Vec<String> =
            first.into_iter().chain(powers.map(|(k, lane)| format!("s[{}] * x{lane}", shift + k))).collect();
        if all.is_empty() { "0".into() } else { all.join(" + ") }
    }

    fn forward(&mut self) {
        self.powers();
        self.text.line("y[0] = s[0];");
        for r in 1..self.powers.rows {
            let row = self.element(r, 0, self.powers.order);
            self.text.line(format!("y[{r} * stride] = {row};"));
        }
    }

    fn adjoint(&mut self) {
        self.powers();
        let rows = self.powers.rows;
        self.text.line("const real g0 = s[1];");
        for r in 1..rows {
            let row = self.element(r, 1, self.powers.order);
            self.text.line(format!("const real g{r} = {row};"));
        }
        let sum: Vec<String> = (0..rows).map(|r| format!("g{r} * b{r}")).collect();
        (0..rows).for_each(|r| self.text.line(format!("const real b{r} = bar[{r} * stride];")));
        self.text.line(format!("y[0] = {};", sum.join(" + ")));
        for r in 1..rows {
            let row = self.transposed(r, &|other| format!("g{other}"));
            self.text.line(format!("y[{r} * stride] = {row};"));
        }
    }

    /// Row r > 0 of the transposed product with g of the adjoint.
    fn transposed(&self, r: usize, g: &dyn Fn(usize) -> String) -> String {
        let mut sum = vec![format!("{} * b{r}", g(0))];
        for (out, a, b, factor) in &self.powers.entries {
            if *a == r || *b == r {
                let other = g(if *a == r { *b } else { *a });
                sum.push(format!("{}{other} * b{out}", self.factor(factor)));
            }
        }
        sum.join(" + ")
    }

    /// y[u] += sum over i >= 1 of (B_i)_o (n_a (n^i)_b + n_b (n^i)_a), see [`Powers`] and `kernels/algebra.cuh`.
    fn constants(&mut self) {
        self.powers();
        let rows = self.powers.rows;
        (1..rows).for_each(|r| self.text.line(format!("const real b{r} = bar[{r} * stride];")));
        let order = self.powers.order;
        for i in 1..order {
            self.text.line("{");
            self.text.line(format!("const real h0 = s[{}];", i + 1));
            for r in 1..rows {
                let row = self.element(r, i + 1, order - i - 1);
                self.text.line(format!("const real h{r} = {row};"));
            }
            for (out, a, b, factor) in &self.powers.entries {
                let Some(u) = factor.varying else { continue };
                let power = |r: usize| match i {
                    1 => Some(r),
                    _ => self.powers.powers[r].iter().find(|p| p.0 == i).map(|p| p.1),
                };
                let mut pairs = vec![(*a, power(*b))];
                if a != b {
                    pairs.push((*b, power(*a)));
                }
                let products: Vec<String> =
                    pairs.iter().filter_map(|(n, p)| p.map(|p| format!("x{n} * x{p}"))).collect();
                if products.is_empty() {
                    continue;
                }
                let v = self.transposed(*out, &|other| format!("h{other}"));
                self.text.line(format!("y[{u}] += ({v}) * ({});", products.join(" + ")));
            }
            self.text.line("}");
        }
    }
}
