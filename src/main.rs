//! Entry point: everything is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ncclscope::app::main()
}
