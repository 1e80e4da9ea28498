//! Rebuilds the crate when a migration changes: they are embedded at compile time.

fn main() {
    #[allow(clippy::print_stdout)] // the way to talk to Cargo
    {
        println!("cargo::rerun-if-changed=../../migrations");
    }
}
