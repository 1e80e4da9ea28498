#![allow(clippy::unwrap_used)]

use handshake_core::model::Message;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// About bees; the sentence on pollination is what it is about.
const BEES: &str = "Honey bees are best known for their honey, yet honey is the smaller part of what they give us. \
A colony of honey bees can hold sixty thousand workers in summer. \
By carrying pollen from flower to flower, bees pollinate about a third of the crops that people eat, and many wild plants depend on the same bees. \
My neighbour, Mr. Brown, keeps two hives behind his garage. \
Since the 1990s the number of wild bees has fallen by more than 30 percent in parts of Europe. \
Scientists blame pesticides, parasites and the loss of wild flowers for the decline of the bees. \
Without bees to pollinate them, crops such as apples, almonds and pumpkins would give far smaller harvests.";

/// About tides.
const TIDES: &str = "Tides are the regular rise and fall of the sea, caused mainly by the gravity of the Moon. \
The Moon pulls the water on the near side of the Earth towards it, and so the sea rises there. \
The word comes from an old term for time. \
The gravity of the Sun acts on the sea as well, but because the Sun is so far away its effect on the tides is less than half that of the Moon. \
When Sun and Moon stand in one line, their gravity adds up and the tides are especially high. \
Fishermen in Dover like to talk about it over tea.";

/// Über den Wald.
const FOREST: &str = "Wälder bedecken etwa ein Drittel der Fläche Deutschlands, d. h. rund 11 Mio. Hektar. \
Für das Klima ist der Wald wichtig, denn die Bäume im Wald binden große Mengen Kohlendioxid. \
Am 3. Oktober war ich mit Dr. Weber spazieren. \
Durch Trockenheit und Borkenkäfer sind seit 2018 jedoch viele Bäume im Wald abgestorben, vor allem Fichten. \
Förster pflanzen deshalb Mischwälder, weil ein Wald aus verschiedenen Bäumen dem Klima besser standhält. \
Der Kaffee danach kostete 3,50 Euro.";

fn request(text: &str, sentences: u64) -> GenerateRequest {
    let message = |role, content: &str| Message { role, content: content.to_owned() };
    GenerateRequest {
        model: "default".into(),
        messages: vec![message(Role::System, "Summarise."), message(Role::User, text)],
        max_tokens: None,
        temperature: None,
        options: json!({ "sentences": sentences }).as_object().unwrap().clone(),
    }
}

async fn summary(text: &str, sentences: u64) -> Vec<String> {
    generate(&request(text, sentences)).await.unwrap().text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_central_sentences_are_picked_verbatim_and_in_order() {
    let cases = [
        (BEES, "By carrying pollen from flower to flower", &["Mr. Brown", "sixty thousand"][..]),
        (TIDES, "Tides are the regular rise and fall", &["old term", "Dover"]),
        (FOREST, "Für das Klima ist der Wald wichtig", &["Oktober", "Kaffee"]),
    ];
    for (text, central, beside_the_point) in cases {
        let picked = summary(text, 3).await;
        assert_eq!(picked.len(), 3);
        let places: Vec<_> = picked.iter().map(|sentence| text.find(sentence.as_str()).unwrap()).collect();
        assert!(places.is_sorted(), "{picked:?}");
        assert!(picked.iter().any(|sentence| sentence.starts_with(central)), "{picked:#?}");
        for words in beside_the_point {
            assert!(!picked.iter().any(|sentence| sentence.contains(words)), "{picked:#?}");
        }
        assert!(picked.iter().all(|sentence| sentence.ends_with('.')), "{picked:#?}");
    }
}

#[tokio::test]
async fn the_same_is_not_said_twice() {
    let text = "The bridge over the river was closed on Monday after engineers found cracks. \
                Engineers found cracks, and so the bridge over the river was closed on Monday. \
                Drivers must take the ferry until the repairs of the bridge are finished in May. \
                The bridge over the river was closed on Monday because engineers found cracks in it.";
    let picked = summary(text, 2).await;
    assert!(picked.iter().any(|sentence| sentence.contains("ferry")), "{picked:#?}");
}

#[tokio::test]
async fn the_answer_says_what_it_is_and_what_it_used() {
    let response = generate(&request("One two three. Four five.", 20)).await.unwrap();
    assert_eq!(response.text, "One two three.\nFour five.");
    assert_eq!((response.model.as_str(), response.finish_reason.as_str()), ("builtin/extractive@1", "stop"));
    assert_eq!(response.usage, TokenUsage { prompt_tokens: 6, completion_tokens: 5, total_tokens: 11 });
}

#[tokio::test]
async fn an_empty_text_gives_an_empty_answer() {
    for text in ["", " \n\t ", "---\n***\n"] {
        let response = generate(&request(text, 3)).await.unwrap();
        assert_eq!((response.text.as_str(), response.finish_reason.as_str()), ("", "stop"));
    }
}

#[tokio::test]
async fn what_is_cut_off_is_said() {
    let mut short = request(BEES, 3);
    short.max_tokens = Some(30);
    let response = generate(&short).await.unwrap();
    assert!(response.usage.completion_tokens <= 30 && response.finish_reason == "length");
    let long = "Another sentence of a long text. ".repeat(CONSIDERED + 1);
    assert_eq!(generate(&request(&long, 3)).await.unwrap().finish_reason, "length");
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let with = |options: Value| GenerateRequest { options: options.as_object().unwrap().clone(), ..request("A b.", 1) };
    for options in [
        json!({ "sentences": 0 }),
        json!({ "sentences": 21 }),
        json!({ "sentences": "3" }),
        json!({ "sentences": 2.5 }),
        json!({ "style": "x" }),
    ] {
        assert!(matches!(generate(&with(options.clone())).await, Err(ModelError::Invalid { .. })), "{options}");
    }
    let mut silent = request("", 1);
    silent.messages.pop();
    assert!(matches!(generate(&silent).await, Err(ModelError::Invalid { .. })));
    assert_eq!(generate(&with(json!({}))).await.unwrap().text, "A b.");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn any_text_is_summarised_the_same_way_twice(text in "(\\PC{0,30}[.!?\n -]{1,3}){0,30}", wanted in 1usize..6) {
        let first = summarise(&text, wanted, None);
        prop_assert!(first.text.lines().count() <= wanted);
        prop_assert_eq!(summarise(&text, wanted, None).text, first.text);
    }
}
