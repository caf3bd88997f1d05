//! The `benchd` executable: parses the command line and turns the answer into an exit code.

fn main() -> std::process::ExitCode {
    benchd::cli::main()
}
