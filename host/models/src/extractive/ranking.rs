//! Ranks sentences by how much they say of the whole text.
//!
//! Each sentence is a vector of its terms, weighted by how few sentences have them, of length one. The sum of all
//! vectors is the centre of the text, and a sentence's product with it is its similarity to all sentences
//! together: LexRank's degree centrality without thresholds, in linear time. Beginnings count a little more, very
//! short and very long sentences less. Sentences are then picked one by one, each discounted by its similarity to
//! those picked before it, so that a summary does not say the same thing twice.
//!
//! Only additions, products, quotients and square roots, in a fixed order: the same bits on every machine.

use std::collections::HashMap;

/// What to do with a picked sentence.
pub(super) enum Answer {
    /// Goes into the summary.
    Take,
    /// Stays out.
    Skip,
    /// Goes into the summary, which is complete.
    Enough,
}

/// What the first sentence gains over a later one of the same centrality; halved at the second, a third at the
/// third. Authors say first what matters.
const LEAD: f64 = 0.25;
/// Terms below which a sentence is discounted in proportion, and above which it is.
const SHORT: f64 = 6.0;
const LONG: f64 = 40.0;
/// Letters of a word that count: a stemmer for many languages, good enough for `summary`, `summarise` and
/// `Zusammenfassung`, `Zusammenfassungen`.
const STEM: usize = 8;

/// Frequent words of English and German that say nothing about a text.
#[rustfmt::skip]
const STOP_WORDS: &[&str] = &[
    "a", "about", "above", "after", "again", "all", "also", "an", "and", "any", "are", "as", "at", "be", "because", "been", "before", "being", "between",
    "both", "but", "by", "can", "could", "did", "do", "does", "down", "during", "each", "even", "few", "for", "from", "further", "had", "has", "have",
    "he", "her", "here", "him", "his", "how", "however", "i", "if", "in", "into", "is", "it", "its", "just", "like", "made", "many", "may", "more", "most",
    "much", "must", "my", "no", "nor", "not", "now", "of", "off", "on", "once", "one", "only", "or", "other", "our", "out", "over", "own", "same", "she",
    "should", "so", "some", "such", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "through", "to", "too",
    "two", "under", "until", "up", "upon", "us", "very", "was", "we", "were", "what", "when", "where", "which", "while", "who", "why", "will", "with",
    "would", "you", "your",
    "aber", "alle", "allem", "allen", "aller", "als", "am", "andere", "anderen", "auch", "auf", "aus", "bei", "beim", "bis", "da", "damit", "dann", "das",
    "dass", "dem", "den", "denn", "der", "deren", "des", "dessen", "die", "dies", "diese", "diesem", "diesen", "dieser", "dieses", "doch", "dort", "du",
    "durch", "ein", "eine", "einem", "einen", "einer", "eines", "er", "es", "etwa", "für", "gegen", "haben", "hat", "hatte", "hatten", "hier", "ihr", "ihre",
    "ihrem", "ihren", "ihrer", "im", "ist", "ja", "jede", "jeder", "jedes", "kann", "kein", "keine", "können", "man", "mehr", "mit", "nach", "nicht", "noch",
    "nun", "nur", "ob", "oder", "ohne", "sehr", "sein", "seine", "seinem", "seinen", "seiner", "seit", "sich", "sie", "sind", "sowie", "über", "um", "und",
    "uns", "unter", "viele", "vom", "von", "vor", "war", "waren", "was", "weil", "wenn", "werden", "wie", "wieder", "wird", "wo", "wurde", "wurden", "zu",
    "zum", "zur", "zwar", "zwei", "zwischen",
];

/// Term and weight, by term.
type Vector = Vec<(u32, f64)>;

/// Offers sentences, best first, until `accept` has enough or none is left.
pub(super) fn pick(sentences: &[String], mut accept: impl FnMut(usize) -> Answer) {
    let (vectors, lengths) = vectors(sentences);
    let scores = scores(&vectors, &lengths);
    let mut open: Vec<bool> = vec![true; sentences.len()];
    let mut nearest = vec![0.0f64; sentences.len()];
    for _ in 0..sentences.len() {
        let mut best: Option<(usize, f64)> = None;
        for at in (0..sentences.len()).filter(|at| open[*at]) {
            // A product: a repetition stays out however central it is.
            let value = scores[at] * (1.0 - nearest[at]);
            // Strictly greater: of equals the first one wins.
            if best.is_none_or(|(_, most)| value > most) {
                best = Some((at, value));
            }
        }
        let Some((at, _)) = best else { return };
        open[at] = false;
        match accept(at) {
            Answer::Enough => return,
            Answer::Skip => {}
            Answer::Take => {
                for (other, nearest) in nearest.iter_mut().enumerate().filter(|(other, _)| open[*other]) {
                    *nearest = nearest.max(product(&vectors[at], &vectors[other]));
                }
            }
        }
    }
}

/// Unit vectors, and the number of terms of each sentence, repeated ones included.
fn vectors(sentences: &[String]) -> (Vec<Vector>, Vec<f64>) {
    let mut terms: HashMap<String, u32> = HashMap::new();
    let mut spread: Vec<f64> = Vec::new();
    let mut counted: Vec<Vector> = Vec::with_capacity(sentences.len());
    let mut lengths = Vec::with_capacity(sentences.len());
    for sentence in sentences {
        let mut ids: Vec<u32> = Vec::new();
        for_each_term(sentence, |term| {
            // Numbered by first appearance, so that nothing depends on the map's order.
            let next = u32::try_from(terms.len()).unwrap_or(u32::MAX);
            ids.push(*terms.entry(term).or_insert(next));
        });
        lengths.push(ids.len() as f64);
        ids.sort_unstable();
        let mut vector: Vector = Vec::new();
        for id in ids {
            match vector.last_mut() {
                Some((last, count)) if *last == id => *count += 1.0,
                _ => vector.push((id, 1.0)),
            }
        }
        spread.resize(terms.len(), 0.0);
        for (id, _) in &vector {
            spread[*id as usize] += 1.0;
        }
        counted.push(vector);
    }
    let all = sentences.len() as f64;
    for vector in &mut counted {
        for (id, weight) in vector.iter_mut() {
            *weight = weight.sqrt() * (all / spread[*id as usize]).sqrt().sqrt();
        }
        let length = vector.iter().map(|(_, weight)| weight * weight).sum::<f64>().sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|(_, weight)| *weight /= length);
        }
    }
    (counted, lengths)
}

fn scores(vectors: &[Vector], lengths: &[f64]) -> Vec<f64> {
    let terms = vectors.iter().flatten().map(|(id, _)| *id as usize + 1).max().unwrap_or(0);
    let mut centre = vec![0.0; terms];
    for (id, weight) in vectors.iter().flatten() {
        centre[*id as usize] += weight;
    }
    // Without the similarity to itself, which is one for every sentence that has a term.
    let central: Vec<f64> = vectors
        .iter()
        .map(|vector| vector.iter().map(|(id, weight)| weight * centre[*id as usize]).sum::<f64>() - 1.0)
        .collect();
    let most = central.iter().copied().fold(0.0, f64::max);
    central
        .iter()
        .zip(lengths)
        .enumerate()
        .map(|(at, (central, length))| {
            let central = if most > 0.0 { (central / most).max(0.0) } else { 0.0 };
            let length_factor = (length / SHORT).min(1.0) * (LONG / length.max(LONG));
            (central + LEAD / (at as f64 + 1.0)) * length_factor
        })
        .collect()
}

/// The product of two vectors that are sorted by term.
fn product(a: &[(u32, f64)], b: &[(u32, f64)]) -> f64 {
    let (mut i, mut j, mut sum) = (0, 0, 0.0);
    while let (Some((x, v)), Some((y, w))) = (a.get(i), b.get(j)) {
        match x.cmp(y) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                sum += v * w;
                i += 1;
                j += 1;
            }
        }
    }
    sum
}

/// Words in lower case, cut to their stem, without stop words. Where writing has no spaces, each character is a
/// term.
fn for_each_term(sentence: &str, mut take: impl FnMut(String)) {
    for word in sentence.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let lower = word.to_lowercase();
        if lower.chars().any(is_ideograph) {
            lower.chars().for_each(|c| take(c.to_string()));
        } else if !STOP_WORDS.contains(&lower.as_str()) && lower.chars().nth(1).is_some() {
            take(stem(&lower));
        }
    }
}

/// The beginning of a word; a plural `s` goes.
fn stem(word: &str) -> String {
    let word = match word.strip_suffix('s') {
        Some(singular) if singular.len() > 3 && !singular.ends_with('s') => singular,
        _ => word,
    };
    word.chars().take(STEM).collect()
}

fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}
