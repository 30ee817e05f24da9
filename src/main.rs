//! The binary: reads the command line, starts the runtime, runs. Decides nothing.

use std::process::ExitCode;
use std::time::Duration;

use larder::cli::{self, Cli, Exit};

/// Gives memory back after large bodies, where the system's allocator keeps it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else {
        return Exit::Failed.into();
    };
    let exit = runtime.block_on(cli::run(cli));
    // A thread that reads a silent standard input would never end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit.into()
}
