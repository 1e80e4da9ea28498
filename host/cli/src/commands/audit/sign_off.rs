//! `handshake audit sign-off`: a person vouches for a run, or does not.

use clap::Args;
use handshake_core::RunId;
use handshake_core::event::Judgement;

use super::filters;
use crate::access::Access;
use crate::error::CliError;
use crate::output::{ALERT, Output};
use crate::review::sign_off::{SignOffLine, SignOffList, SignOffRequest};

/// Arguments of `handshake audit sign-off`.
#[derive(Debug, Args)]
pub(crate) struct SignOffArgs {
    /// The run
    #[arg(value_parser = filters::run)]
    run: RunId,
    /// Who signs; without it what was signed is shown
    #[arg(long = "as", value_name = "NAME", requires = "verdict")]
    name: Option<String>,
    /// What is said about the run: accept or reject
    #[arg(long, value_name = "VERDICT", requires = "name")]
    verdict: Option<Judgement>,
    /// Why
    #[arg(long, value_name = "TEXT", requires = "name", default_value = "", hide_default_value = true)]
    note: String,
}

/// Signs, or shows what was signed.
pub(super) async fn sign_off(access: Access, output: &Output, args: &SignOffArgs) -> Result<(), CliError> {
    let path = format!("/api/v1/audit/sign-offs/{}", args.run);
    if let (Some(name), Some(verdict)) = (&args.name, args.verdict) {
        let request = SignOffRequest { name: Some(name.clone()), verdict, note: args.note.clone() };
        let signed = access.post::<SignOffLine>(&path, &request).await;
        let signed = access.finish(output, signed).await?;
        if output.is_json() {
            return output.json(&signed);
        }
        return show(output, &signed);
    }
    let list = access.get::<SignOffList>(&path).await;
    let list = access.finish(output, list).await?;
    if output.is_json() {
        return output.json(&list);
    }
    if list.sign_offs.is_empty() {
        output.note("nobody has signed");
        return Ok(());
    }
    output.table(&["SIGNED", "WHO", "VERDICT", "NOTE", "SIGNATURE"], list.sign_offs.iter().map(row).collect())
}

fn show(output: &Output, line: &SignOffLine) -> Result<(), CliError> {
    let said = &line.statement.body;
    output.field("run", &said.run.to_string())?;
    output.field("signed", &format!("{} by {}", said.signed_at, said.name))?;
    output.field("verdict", said.verdict.as_str())?;
    output.field("record", &format!("verified up to {}, sha256 {}", said.seq, said.head_hash))?;
    output.field("statement", &format!("sha256 {}", line.sha256))
}

fn row(line: &SignOffLine) -> Vec<String> {
    let said = &line.statement.body;
    let signature = match (&line.problem, line.event) {
        (Some(problem), _) => format!("{ALERT} {problem}"),
        (None, Some(_)) => "right, on record".to_owned(),
        (None, None) => "right; its event is not kept any more".to_owned(),
    };
    let verdict = match said.verdict {
        Judgement::Accept => "accept".to_owned(),
        Judgement::Reject => format!("{ALERT} reject"),
    };
    vec![said.signed_at.to_string(), said.name.clone(), verdict, said.note.clone(), signature]
}
