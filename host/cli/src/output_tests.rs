use super::*;

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

#[test]
fn tables_fit_into_80_columns_and_keep_ids_in_one_piece() {
    let id = "0198f3a2-7c11-7000-8000-0123456789ab";
    let text = table(
        &["JOB", "STATE", "WORKFLOW", "CREATED"],
        vec![
            row(&[
                id,
                "completed_with_issues",
                "a workflow with a name that does not end soon, and then some",
                "2026-01-01T00:00:00Z",
            ]),
            row(&[id, "failed", "short", "2026-01-01T00:00:00Z"]),
        ],
        80,
    );
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(text.matches(id).count(), 2, "{text}");
}

#[test]
fn a_small_table_looks_like_this() {
    let text = table(
        &["PLUGIN", "ALLOWED", "DENIED"],
        vec![row(&["read-folder", "12", "0"]), row(&["summarize", "3", "✗ 1"])],
        80,
    );
    insta::assert_snapshot!(text, @r"
    PLUGIN       ALLOWED  DENIED
    read-folder  12       0
    summarize    3        ✗ 1
    ");
}

#[test]
fn words_stay_whole_as_long_as_there_is_room() {
    let decisions = vec![
        row(&["05:40:06", "write-report@0.1.0", "write", "fs.write out/report.md", "allow policy.toml:22"]),
        row(&["05:40:06", "read-folder@0.1.0", "summarize[0]", "artifact.write *", "✗ not-granted by grant"]),
    ];
    let text = table(&["TIME", "WHO", "STEP", "ASKED FOR", "DECISION"], decisions, 80);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for word in ["write-report@0.1.0", "summarize[0]", "artifact.write", "policy.toml:22", "not-granted"] {
        assert!(text.contains(word), "{word} is broken:\n{text}");
    }
    let narrow = table(&["A", "B"], vec![row(&["x".repeat(60).as_str(), "y".repeat(60).as_str()])], 40);
    assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
}

#[test]
fn escape_codes_in_cells_become_visible() {
    let text = table(&["NAME"], vec![row(&["\u{1b}[31mred\u{202e}"])], 80);
    assert!(text.contains("\\u{1b}[31mred\\u{202e}"), "{text}");
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn an_alert_is_coloured_to_the_end_of_its_cell() {
    assert_eq!(highlight("a  ✗ 3  b\n"), "a  \u{1b}[1;31m✗ 3\u{1b}[0m  b\n");
    assert_eq!(highlight("none\n"), "none\n");
}
