//! Takes a database back to an earlier schema, for whoever works on migrations: `just db-revert [VERSION]`.
//!
//! The database is the one that `DATABASE_URL` names, else `.handshake/handshake.db`. Nothing else has this:
//! reverting drops data, and releases only go forward.

#![allow(clippy::print_stdout)]

#[cfg(debug_assertions)]
use handshake_storage::{DatabaseUrl, Limits, SqlDatabase};

#[cfg(debug_assertions)]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").unwrap_or_else(|_| "sqlite:.handshake/handshake.db".to_owned());
    let url: DatabaseUrl = url.parse()?;
    let Some(from) = SqlDatabase::schema(url.clone(), Limits::default()).await?.version else {
        println!("{url} has no schema yet");
        return Ok(());
    };
    let to = match std::env::args().nth(1).filter(|version| !version.is_empty()) {
        Some(version) => version.parse()?,
        None => from - 1,
    };
    if !(0..from).contains(&to) {
        return Err(format!("{url} has schema {from}; name an earlier one").into());
    }
    SqlDatabase::revert(url.clone(), to).await?;
    println!("{url} went back from schema {from} to {to}");
    Ok(())
}

#[cfg(not(debug_assertions))]
fn main() {
    println!("releases have no way back; build this for development");
}
