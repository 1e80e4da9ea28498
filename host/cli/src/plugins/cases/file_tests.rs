//! Cases that cannot be understood, each with its place.

#![allow(clippy::unwrap_used)]

use super::*;

fn case(text: &str) -> Result<Case, CliError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("docs")).unwrap();
    std::fs::write(folder.path().join("words.json"), "{").unwrap();
    std::os::unix::fs::symlink("/etc", folder.path().join("away")).unwrap();
    std::fs::write(folder.path().join("case.toml"), text).unwrap();
    Case::read(&folder.path().join("case.toml"))
}

#[test]
fn each_mistake_is_told_with_line_and_column() {
    for (text, at, says) in [
        ("inputs = {}\n", "1:1", "unknown field `inputs`"),
        ("grants = [\"fs.rede\"]\n", "1:10", "HSK-4001"),
        ("access_mode = \"all\"\n", "1:15", "analysis_only"),
        ("input = {}\ninput_file = \"a.json\"\n", "2:14", "not both"),
        ("input_file = \"none.json\"\n", "1:14", "cannot read"),
        ("input_file = \"words.json\"\n", "1:14", "is not JSON"),
        ("input_file = \"../secret.json\"\n", "1:14", "inside the folder of the case"),
        ("[mounts]\nDOCS = \"docs\"\n", "2:1", "is not a name for a mount"),
        ("[mounts]\ndocs = \"/etc\"\n", "2:8", "inside the folder of the case"),
        ("[mounts]\ndocs = \"away\"\n", "2:8", "leads out of the folder"),
        ("[mounts]\ndocs = \"dcos\"\n", "2:8", "is not a folder"),
        ("[secrets.key]\nvalue = \"short\"\n", "2:9", "at least 8 bytes"),
        ("[secrets.key]\nvalue = \"long-enough\"\nhosts = [\"http://a.example\"]\n", "1:10", "`https` only"),
        ("[[model]]\nname = \"default\"\n", "1:1", "one of `answer`, `vectors` and `error`"),
        ("[[model]]\nerror = \"HSK-999\"\n", "2:9", "HSK-429-RATE-LIMIT"),
        ("[[http]]\nrequest = \"https://a.example\"\n", "2:11", "a method, a space and a URL"),
        ("[[http]]\nrequest = \"GET ftp://a.example\"\n", "2:11", ""),
        ("[[http]]\nrequest = \"GET https://a.example\"\nstatus = 99\n", "3:10", "between 200 and 599"),
        ("[expect]\noutput = 1\nerror = \"trap\"\n", "3:9", "expect one of them"),
        ("[expect]\nfile = {}\n", "2:1", "unknown field `file`"),
        ("grants = []\n[expect]\n", "2:1", "says nothing"),
    ] {
        let error = case(text).err().unwrap_or_else(|| panic!("accepted: {text}"));
        assert!(error.message.contains(&format!("case.toml:{at}: ")), "{text}\n{error:?}");
        let said = format!("{} {}", error.message, error.why.join(" "));
        assert!(said.contains(says), "{text}\n{error:?}");
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let case = case("[mounts]\ndocs = \"docs\"\nout = \"\"\n[[model]]\nanswer = \"a\"\n").unwrap();
    assert_eq!((case.name.as_str(), case.grants, case.expect_at), ("case", None, None));
    assert!(case.mounts["docs"].is_some() && case.mounts["out"].is_none());
    assert_eq!((case.models[0].1.name.as_str(), case.models[0].1.times), ("default", 1));
}
