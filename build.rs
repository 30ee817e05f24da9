//! Turns the `.proto` of Please's RPC cache into its messages, and into the description that server reflection hands out.

use std::error::Error;
use std::path::PathBuf;

use protox::prost::Message as _;

const PROTO: &str = "src/front/rpc/rpc_cache.proto";

#[expect(clippy::disallowed_methods, reason = "this is how Cargo tells a build script where to write")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    let set = protox::compile([PROTO], ["src/front/rpc"])?;
    std::fs::write(out.join("rpc_cache.bin"), set.encode_to_vec())?;
    prost_build::Config::new().bytes(["."]).compile_fds(set)?;
    Ok(())
}
