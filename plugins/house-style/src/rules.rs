//! What the style asks for.

use crate::{Input, Operation, Output, Verdict};

/// Looks at all proposals together.
pub(crate) fn look(input: &Input) -> Output {
    let operations = || input.proposals.iter().flat_map(|proposal| &proposal.operations);
    let unwanted: Vec<_> = input.with.words.iter().filter(|word| operations().any(|one| writes(one, word))).collect();
    if !unwanted.is_empty() {
        let reasons = unwanted.into_iter().map(|word| format!("the word `{word}` is not our style"));
        return Output { verdict: Verdict::Reject, reasons: reasons.collect() };
    }
    let deleted = operations().filter(|operation| operation.op == "delete_block").count();
    if deleted > input.with.deletions {
        let plural = if deleted == 1 { "block" } else { "blocks" };
        return Output { verdict: Verdict::NeedsPerson, reasons: vec![format!("{deleted} {plural} would be deleted")] };
    }
    Output { verdict: Verdict::Pass, reasons: Vec::new() }
}

/// Whether an operation writes a word. A part of another word is not that word.
fn writes(operation: &Operation, word: &str) -> bool {
    let word = word.to_lowercase();
    let texts = operation.content.iter().chain(&operation.value);
    texts.flat_map(|text| text.split(|c: char| !c.is_alphanumeric())).any(|found| found.to_lowercase() == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use handshake_step::serde_json::{self, json};

    fn says(with: serde_json::Value, operations: serde_json::Value) -> (Verdict, Vec<String>) {
        let proposals = json!([{ "document": "d", "base_version": 1, "operations": operations }]);
        let input: Input = serde_json::from_value(json!({ "proposals": proposals, "with": with })).expect("an input");
        let Output { verdict, reasons } = look(&input);
        (verdict, reasons)
    }

    #[test]
    fn a_word_that_is_not_wanted_rejects_and_deletions_ask() {
        let words = json!({ "words": ["Utilize", "synergy"] });
        let written = json!([{ "op": "replace_block", "block_id": "b", "content": "We *utilize* it. Synergy!" }]);
        let (verdict, reasons) = says(words.clone(), written);
        assert!(verdict == Verdict::Reject);
        assert_eq!(reasons, ["the word `Utilize` is not our style", "the word `synergy` is not our style"]);
        let part = json!([{ "op": "insert_block", "after": null, "kind": "paragraph", "content": "utilizes" }]);
        assert!(says(words.clone(), part).0 == Verdict::Pass, "it is another word");
        let title = json!([{ "op": "update_metadata", "key": "title", "value": "\"Synergy\"" }]);
        assert!(says(words.clone(), title).0 == Verdict::Reject);
        let delete = json!([{ "op": "delete_block", "block_id": "b" }]);
        assert_eq!(says(words, delete.clone()).1, ["1 block would be deleted"]);
        assert!(says(json!({ "deletions": 1 }), delete).0 == Verdict::Pass);
    }
}
