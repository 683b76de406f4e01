//! A `JetProgram` under construction: inputs and tensors come into being when they are first used.

use crate::jet::{Algebra, AlgebraId, JetProgram, Op, Tensor, TensorId, ValueId};
use crate::operator::Index;
use crate::program::{Activation, CoefId, Learning, NetId, ParamId, Program};
use std::collections::{BTreeSet, HashMap};

/// What draws come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DrawSource {
    /// A sampler of the graph, by number.
    Sampler(u32),
    /// A weighting of the graph, by number.
    Weighting(u32),
}

/// A program under construction.
pub struct Builder<'p> {
    pub program: &'p Program,
    /// What there is so far.
    pub jet: JetProgram,
    /// The value of the output jet of each network call.
    pub jets: HashMap<u32, ValueId>,
    points: Option<ValueId>,
    data: Option<ValueId>,
    draws: HashMap<(DrawSource, i64), ValueId>,
    /// The samplers whose draws the program reads.
    pub samplers: BTreeSet<u32>,
    /// The number of the point set among those of the program.
    set: u32,
}

impl<'p> Builder<'p> {
    /// An empty program with this name, for the point set of this number.
    pub fn new(program: &'p Program, name: &str, data_columns: usize, set: u32) -> Self {
        let jet =
            JetProgram { name: name.to_string(), columns: program.columns(), data_columns, ..JetProgram::default() };
        Builder {
            program,
            jet,
            jets: HashMap::new(),
            points: None,
            data: None,
            draws: HashMap::new(),
            samplers: BTreeSet::new(),
            set,
        }
    }

    /// The value of an operation, which is appended if it is new.
    pub fn push(&mut self, op: Op) -> ValueId {
        let known = self.jet.ops.iter().position(|o| *o == op);
        ValueId(known.unwrap_or_else(|| {
            self.jet.ops.push(op);
            self.jet.ops.len() - 1
        }) as u32)
    }

    /// The number of a structure table, which is added if it is new.
    pub fn algebra(&mut self, table: Algebra) -> AlgebraId {
        let known = self.jet.algebras.iter().position(|a| *a == table);
        AlgebraId(known.unwrap_or_else(|| {
            self.jet.algebras.push(table);
            self.jet.algebras.len() - 1
        }) as u32)
    }

    /// The points.
    pub fn points(&mut self) -> ValueId {
        if let Some(v) = self.points {
            return v;
        }
        let v = self.push(Op::Points);
        self.points = Some(v);
        v
    }
    /// The data rows: columns of a data set, or outward normals.
    pub fn data(&mut self) -> ValueId {
        if let Some(v) = self.data {
            return v;
        }
        let v = self.push(Op::Data);
        self.data = Some(v);
        v
    }
    /// The generator stream of a source: no two of a program are the same. Bits 30 and up tell these streams from all others;
    /// the first 128 sources of a kind are numbered within 8 bits, more within 16.
    pub fn stream(&self, source: DrawSource) -> u32 {
        let (kind, number) = match source {
            DrawSource::Sampler(n) => (0, n),
            DrawSource::Weighting(n) => (1, n),
        };
        match number {
            0..128 => 0x4000_0000 | self.set << 8 | kind << 7 | number,
            _ => 0x8000_0000 | kind << 30 | self.set << 16 | number,
        }
    }

    /// A value that is made when it is first asked for.
    pub fn once(&mut self, key: (DrawSource, i64), make: impl FnOnce(&mut Self) -> ValueId) -> ValueId {
        if let Some(v) = self.draws.get(&key) {
            return *v;
        }
        let v = make(self);
        self.draws.insert(key, v);
        v
    }

    /// Position of a space column among the components of a normal.
    pub fn normal(&self, column: &Index) -> Index {
        match column.as_constant() {
            Some(c) => {
                let mut before = 0;
                for g in self.program.space() {
                    if (g.first as i64..(g.first + g.len) as i64).contains(&c) {
                        return Index::constant(before + c - g.first as i64);
                    }
                    before += g.len as i64;
                }
                Index::constant(0)
            }
            None => column.shift(-self.program.space().next().map_or(0, |g| g.first as i64)),
        }
    }

    fn tensor(&mut self, name: String, shape: Vec<usize>, learned: bool) -> TensorId {
        let k = self.jet.tensors.iter().position(|t| t.name == name).unwrap_or_else(|| {
            self.jet.tensors.push(Tensor { name, shape, learned });
            self.jet.tensors.len() - 1
        });
        TensorId(k as u32)
    }
    /// A scalar parameter.
    pub fn param(&mut self, p: ParamId) -> TensorId {
        let param = &self.program.params[p.index()];
        self.tensor(param.name.clone(), Vec::new(), param.learn != Learning::Fixed)
    }
    /// A coefficient table.
    pub fn coef(&mut self, c: CoefId) -> TensorId {
        let coef = &self.program.coefs[c.index()];
        self.tensor(coef.name.clone(), vec![coef.len], false)
    }
    /// Number of layers, and what is between them.
    pub fn architecture(&self, net: NetId) -> (usize, Activation) {
        let net = &self.program.nets[net.index()];
        (net.depth, net.activation)
    }
    /// Weight and bias of a layer.
    pub fn layer(&mut self, net: NetId, layer: usize) -> (TensorId, TensorId) {
        let net = &self.program.nets[net.index()];
        let mut sizes = net.sizes();
        if let Some(block) = net.share {
            sizes[0] = net.inputs.div_ceil(block.max(1));
        }
        let (inputs, outputs) = (sizes[layer], sizes[layer + 1]);
        let weight = self.tensor(format!("{}.{layer}.weight", net.name), vec![outputs, inputs], true);
        let bias = self.tensor(format!("{}.{layer}.bias", net.name), vec![outputs], true);
        (weight, bias)
    }
    /// Weight and bias of what the blocks of a network's inputs share, if they share any.
    pub fn shared_layer(&mut self, net: NetId) -> Option<(TensorId, TensorId)> {
        let net = &self.program.nets[net.index()];
        let block = net.share?;
        let weight = self.tensor(format!("{}.share.weight", net.name), vec![1, block], true);
        let bias = self.tensor(format!("{}.share.bias", net.name), vec![1], true);
        Some((weight, bias))
    }
}
