//! A program as text: one line per thing, in the words of the language, with shapes and what was left to default.

use super::types::*;
use std::fmt::{self, Display, Formatter};

/// Nodes after which an expression is cut.
const NODES: usize = 400;

impl Display for Program {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for group in &self.groups {
            let kind = match group.kind {
                GroupKind::Space => "space",
                GroupKind::Time => "time",
                GroupKind::State => "state",
                GroupKind::Input => "input",
            };
            write!(f, "{kind} {}", group.name)?;
            if group.is_vector {
                write!(f, "[{}]", group.len)?;
            }
            write!(f, "{}", group.domain)?;
            writeln!(f, "{}", if group.periodic { " periodic" } else { "" })?;
        }
        for param in &self.params {
            let learn = match param.learn {
                Learning::Fixed => "",
                Learning::Linear => " learn",
                Learning::Log => " learn log",
            };
            writeln!(f, "param {} = {}{learn}", param.name, param.value)?;
        }
        for coef in &self.coefs {
            let Coef { name, len, seed, .. } = coef;
            match coef.distribution {
                CoefDistribution::Normal => writeln!(f, "coef {name}[{len}] ~ normal(seed = {seed})")?,
                CoefDistribution::Uniform(lo, hi) => {
                    writeln!(f, "coef {name}[{len}] ~ uniform({lo}..{hi}, seed = {seed})")?
                }
            }
        }
        for net in &self.nets {
            let Net { inputs, width, depth, outputs, activation, .. } = net;
            write!(f, "net {}: {inputs} -> {outputs}, width {width}, depth {depth}, {activation}", net.name)?;
            match net.share {
                Some(length) => writeln!(f, ", block {length}")?,
                None => writeln!(f)?,
            }
        }
        for data in &self.data {
            writeln!(f, "data {} = {:?}: {}", data.name, data.path, data.columns.join(", "))?;
        }
        for (kind, list) in [("field", &self.fields), ("let", &self.lets), ("output", &self.outputs)] {
            for Named { name, value, .. } in list {
                let text = self.limited_text(*value, NODES, kind == "output");
                writeln!(f, "{kind} {name}: {} = {text}", self.shape(*value))?;
            }
        }
        for condition in &self.conditions {
            self.condition(condition, f)?;
        }
        for estimate in &self.estimates {
            let target = match estimate.target {
                EstimateTarget::Expression(id) => self.limited_text(id, NODES, true),
                EstimateTarget::Output(position) => self.outputs[position].name.clone(),
                EstimateTarget::Condition(position) => self.conditions[position].name.clone(),
            };
            let unbiased = if estimate.unbiased { " unbiased" } else { "" };
            writeln!(f, "estimate {target} by {}{unbiased}", estimate.method)?;
        }
        self.flow.iter().try_for_each(|flow| self.flow(flow, f))?;
        self.fit.iter().try_for_each(|fit| self.fit(fit, f))?;
        if let Some(training) = &self.training {
            let Training { rate, decay, beta1, beta2, epsilon, steps, .. } = training;
            write!(f, "train adam(lr = {rate}, beta1 = {beta1}, beta2 = {beta2}, epsilon = {epsilon:e}, ")?;
            write!(f, "decay = {decay}), steps = {steps}")?;
            training.batch.map_or(Ok(()), |batch| write!(f, ", batch = {batch}"))?;
            writeln!(f)?;
        }
        for report in &self.reports {
            self.report(report, f)?;
        }
        Ok(())
    }
}

impl Program {
    fn condition(&self, condition: &Condition, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "solve {} on ", condition.name)?;
        match &condition.region {
            Region::Interior => write!(f, "interior")?,
            Region::Boundary => write!(f, "boundary")?,
            Region::Face { coordinate, value, outward } => {
                write!(f, "{} = {value} (outward {outward})", self.coordinate_text(coordinate))?
            }
            Region::Data(id) => write!(f, "{}", self.data[id.index()].name)?,
        }
        write!(f, ", {} points, weight {}", condition.count, condition.weight)?;
        for (word, term) in [("enhance", condition.enhance), ("match", condition.matching)] {
            if let Some(GradientTerm { weight, directions }) = term {
                write!(f, ", {word} gradient(weight = {weight}")?;
                directions.map_or(Ok(()), |k| write!(f, ", dirs = {k}"))?;
                write!(f, ")")?;
            }
        }
        writeln!(f, ":")?;
        let shape = self.shape(condition.residual);
        writeln!(f, "  {} : {shape}", self.limited_text(condition.residual, NODES, true))
    }

    fn flow(&self, flow: &Flow, f: &mut Formatter<'_>) -> fmt::Result {
        let state = &self.groups[flow.state.index()].name;
        write!(f, "flow d_t({state}) = {} by ", self.limited_text(flow.right, NODES, true))?;
        match &flow.integrator {
            Integrator::Taylor { order } => write!(f, "taylor(order = {order}")?,
            Integrator::TaylorLagrange { order, midpoint } => {
                let midpoint = self.limited_text(*midpoint, NODES, true);
                write!(f, "taylor_lagrange(order = {order}, midpoint = {midpoint}")?;
            }
            Integrator::RungeKutta(scheme) => write!(f, "{scheme}(")?,
            Integrator::Hypersolver { base, correction } => {
                let correction = self.limited_text(*correction, NODES, true);
                write!(f, "hypersolver(method = {base}, correction = {correction}")?;
            }
            Integrator::Dopri5 { rtol, atol } => write!(f, "dopri5(rtol = {rtol:e}, atol = {atol:e}")?,
        }
        if let Some(step) = flow.step {
            let comma = if matches!(flow.integrator, Integrator::RungeKutta(_)) { "" } else { ", " };
            write!(f, "{comma}step = {step}, substeps = {}", flow.substeps)?;
        }
        flow.tolerance.map_or(Ok(()), |tolerance| write!(f, ", tolerance = {tolerance:e}"))?;
        writeln!(f, ")")
    }

    fn fit(&self, fit: &Fit, f: &mut Formatter<'_>) -> fmt::Result {
        let Fit { data, horizon, loss, remainder_weight, midpoint_every, midpoint_tolerance, .. } = fit;
        write!(f, "fit flow to {}, horizon = {horizon}", self.data[data.index()].name)?;
        loss.map_or(Ok(()), |loss| write!(f, ", loss = {}", self.limited_text(loss, NODES, true)))?;
        write!(f, ", remainder_weight = {remainder_weight}")?;
        if let Some(every) = midpoint_every {
            write!(f, ", midpoint_every = {every}, midpoint_tolerance = {midpoint_tolerance:e}")?;
        }
        writeln!(f)
    }

    fn report(&self, report: &Report, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "report {}", report.label)?;
        match &report.kind {
            ReportKind::Error { data: Some(data), .. } => write!(f, " over {}", self.data[data.index()].name)?,
            ReportKind::Error { .. } => write!(f, " over {} points", report.points)?,
            ReportKind::Rollout { .. } => write!(f, " over {} rows", report.points)?,
            ReportKind::Value { at, reference, .. } => {
                match at.len() {
                    0 => {}
                    n if n <= 8 => write!(f, " at {at:?}")?,
                    n => write!(f, " at [{:?}, .., {:?}] ({n})", at[0], at[n - 1])?,
                }
                reference.map_or(Ok(()), |reference| write!(f, ", reference {reference}"))?;
            }
        }
        report.every.map_or(Ok(()), |every| write!(f, ", every {every} steps"))?;
        writeln!(f)
    }
}

impl Display for Domain {
    /// What follows the coordinate in its declaration, with a blank before it.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Domain::None => Ok(()),
            Domain::Interval(lo, hi) => write!(f, " in {lo}..{hi}"),
            Domain::Ball { radius, volume: false } => write!(f, " in ball(radius = {radius})"),
            Domain::Ball { radius, volume: true } => write!(f, " in ball(radius = {radius}, measure = volume)"),
            Domain::Normal => write!(f, " from normal()"),
            Domain::Brownian { scale } => write!(f, " from brownian(scale = {scale})"),
        }
    }
}

impl Display for Activation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let names = Activation::NAMES;
        f.write_str(names.iter().find(|(_, activation)| activation == self).map_or("", |(name, _)| name))
    }
}

impl Display for Method {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Method::Auto => write!(f, "auto"),
            Method::Exact => write!(f, "exact"),
            Method::Compressed { k: None } => write!(f, "compressed"),
            Method::Compressed { k: Some(k) } => write!(f, "compressed({k})"),
            Method::Sparse { k, shared: false } => write!(f, "sparse({k})"),
            Method::Sparse { k, shared: true } => write!(f, "sparse({k}, shared = true)"),
            Method::Importance { k } => write!(f, "importance({k})"),
            Method::Rademacher { k } => write!(f, "rademacher({k})"),
            Method::Gaussian { k } => write!(f, "gaussian({k})"),
        }
    }
}

impl Display for Decay {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Decay::Constant => write!(f, "constant"),
            Decay::Linear => write!(f, "linear"),
            Decay::Cosine => write!(f, "cosine"),
            Decay::Exponential(factor) => write!(f, "exponential({factor})"),
        }
    }
}

impl Display for Scheme {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = Scheme::NAMES.iter().find(|(_, scheme)| scheme == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}
