//! Compiles `src/heat.jet` with its weights into a typed module.

fn main() {
    jetc::build::compile("src/heat.jet").weights("src/heat.safetensors").run();
}
