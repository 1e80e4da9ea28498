//! Links the path of libduckdb into programs, so that they find it wherever they are started from. Without this the
//! loader would need a variable, which nobody sets by hand.

fn main() {
    println!("cargo::rerun-if-env-changed=DUCKDB_LIB_DIR");
    if let Ok(folder) = std::env::var("DUCKDB_LIB_DIR") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
