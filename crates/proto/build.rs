//! Generates the gRPC code with a pure Rust compiler, so that no machine needs `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/nanboku.proto");
    let descriptors = protox::compile(["proto/nanboku.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
