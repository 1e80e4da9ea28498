//! All rules, and what says quickly that none of them applies.
//!
//! A rule's expression is tried only on a text that has one of the rule's keywords, all of which are looked for at once.
//! Building that takes some milliseconds, so it is done once for each process and in the background; the expressions
//! are compiled when they are tried for the first time, since most of them never are.

use std::ops::Range;
use std::sync::{LazyLock, OnceLock};

use aho_corasick::Input;
use aho_corasick::automaton::{Automaton, OverlappingState};
use aho_corasick::dfa::DFA;
use handshake_core::event::RedactionScope;
use regex::bytes::{Regex, RegexBuilder};

use super::corpus::{CorpusRule, corpus};
use super::forms::{Form, LONGEST_GROWTH, TABLE};
use super::marks::Masked;

/// What one compiled expression may take, in bytes; the largest of the corpus needs a fifth of it.
const LARGEST_EXPRESSION: usize = 4 << 20;
/// What the search for one expression may keep between texts, in bytes and for each thread.
const LARGEST_CACHE: usize = 1 << 20;

/// Compiles an expression that the table (with Unicode's classes) or the corpus (with ASCII's, as it is meant) has.
pub(super) fn expression(text: &str, unicode: bool) -> Option<Regex> {
    RegexBuilder::new(text).unicode(unicode).size_limit(LARGEST_EXPRESSION).dfa_size_limit(LARGEST_CACHE).build().ok()
}

/// One rule.
pub(super) struct Rule {
    origin: Origin,
    regex: OnceLock<Option<Regex>>,
}

enum Origin {
    Table(&'static Form),
    Corpus(CorpusRule),
}

impl Rule {
    fn of(origin: Origin) -> Self {
        Self { origin, regex: OnceLock::new() }
    }

    /// Its name in marks and lists.
    pub(super) fn name(&self) -> &str {
        match &self.origin {
            Origin::Table(form) => form.rule,
            Origin::Corpus(rule) => &rule.id,
        }
    }

    /// Its category in marks.
    pub(super) fn category(&self) -> &'static str {
        match &self.origin {
            Origin::Table(form) => form.category,
            Origin::Corpus(rule) => rule.category(),
        }
    }

    /// The narrowest scope in which it applies.
    fn scope(&self) -> RedactionScope {
        match &self.origin {
            Origin::Table(form) => form.scope,
            Origin::Corpus(_) => RedactionScope::Identity,
        }
    }

    /// Whether it looks for secrets, rather than for personal data, paths and variables.
    pub(super) fn finds_secrets(&self) -> bool {
        self.scope() == RedactionScope::Identity
    }

    pub(super) fn keywords(&self) -> impl Iterator<Item = &str> {
        let (form, rule) = match &self.origin {
            Origin::Table(form) => (form.near, [].as_slice()),
            Origin::Corpus(rule) => ([].as_slice(), rule.keywords.as_slice()),
        };
        form.iter().copied().chain(rule.iter().map(String::as_str))
    }

    /// Its expression, and whether classes are Unicode's.
    pub(super) fn source(&self) -> (&str, bool) {
        match &self.origin {
            Origin::Table(form) => (form.expression, true),
            Origin::Corpus(rule) => (&rule.expression, false),
        }
    }

    fn is_worth_trying(&self, text: &str) -> bool {
        match &self.origin {
            Origin::Table(form) => (form.worth)(text),
            Origin::Corpus(_) => true,
        }
    }

    fn accepts(&self, value: &str) -> bool {
        match &self.origin {
            Origin::Table(form) => (form.accepts)(value),
            Origin::Corpus(rule) => rule.accepts(value),
        }
    }

    /// Compiled at the first use. A test holds that every expression compiles.
    pub(super) fn regex(&self) -> Option<&Regex> {
        let (text, unicode) = self.source();
        self.regex.get_or_init(|| expression(text, unicode)).as_ref()
    }

    /// The pieces of a text to be replaced.
    pub(super) fn ranges<'a>(
        &'a self,
        original: &'a str,
        masked: &'a Masked<'a>,
    ) -> impl Iterator<Item = Range<usize>> + 'a {
        let captures = self.regex().into_iter().flat_map(|regex| regex.captures_iter(masked.text.as_bytes()));
        captures.filter_map(move |found| {
            let group = match &self.origin {
                Origin::Table(_) => found.name("value"),
                // Upstream's secret is the first group that took part.
                Origin::Corpus(_) => found.iter().skip(1).flatten().find(|group| !group.is_empty()),
            };
            let range = group.or_else(|| found.get(0))?.range();
            // ASCII's classes can cut a character in two; then all of it goes.
            let range = original.floor_char_boundary(range.start)..original.ceil_char_boundary(range.end);
            let range = match (&self.origin, group) {
                (Origin::Table(form), _) if form.grows => grown(original, range),
                (Origin::Table(_), Some(_)) => without_quotes(original, range),
                _ => range,
            };
            let range = masked.outside_marks(range)?;
            self.accepts(&original[range.clone()]).then_some(range)
        })
    }
}

/// With the word before it.
fn grown(text: &str, range: Range<usize>) -> Range<usize> {
    let belongs = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '.' | '%' | '+' | '-');
    let before = text[..range.start].chars().rev().take_while(belongs).take(LONGEST_GROWTH);
    range.start - before.map(char::len_utf8).sum::<usize>()..range.end
}

fn without_quotes(text: &str, range: Range<usize>) -> Range<usize> {
    const QUOTES: [char; 3] = ['"', '\'', '\\'];
    let inside = text[range.clone()].trim_start_matches(QUOTES);
    let start = range.end - inside.len();
    start..start + inside.trim_end_matches(QUOTES).len()
}

/// All rules.
pub(super) struct Rules {
    /// Those for secrets first, the table's before the corpus's: where findings overlap, the first names them.
    pub(super) all: Vec<Rule>,
    /// All keywords of two letters and more; none if they cannot be built, and then every rule is tried on every text.
    keywords: Option<DFA>,
    /// For each keyword, the rules that have it.
    rules_of: Vec<Vec<usize>>,
    /// For each byte, the bits of the single-character keywords that it is; finding those otherwise would interrupt
    /// the search at every `-`.
    bits: [u8; 256],
    /// For each of these bits, the rules that have it.
    rules_of_bit: Vec<Vec<usize>>,
}

static RULES: LazyLock<Rules> = LazyLock::new(Rules::build);

impl Rules {
    /// The process's only ones. The first caller builds them, or waits for who does.
    pub(super) fn get() -> &'static Self {
        &RULES
    }

    fn build() -> Self {
        let table = TABLE.iter().map(Origin::Table);
        let mut all: Vec<Rule> = table.chain(corpus().into_iter().map(Origin::Corpus)).map(Rule::of).collect();
        all.sort_by_key(|rule| !rule.finds_secrets());
        let (mut words, mut rules_of): (Vec<&str>, Vec<Vec<usize>>) = (Vec::new(), Vec::new());
        let (mut bits, mut characters, mut rules_of_bit) = ([0; 256], Vec::new(), Vec::<Vec<usize>>::new());
        for (at, rule) in all.iter().enumerate() {
            for keyword in rule.keywords() {
                let (known, lists) =
                    if keyword.len() == 1 { (&mut characters, &mut rules_of_bit) } else { (&mut words, &mut rules_of) };
                let place = known.iter().position(|it| it.eq_ignore_ascii_case(keyword)).unwrap_or_else(|| {
                    known.push(keyword);
                    lists.push(Vec::new());
                    known.len() - 1
                });
                lists[place].push(at);
            }
        }
        for (place, character) in characters.iter().enumerate() {
            bits[usize::from(character.as_bytes()[0])] =
                1_u8.checked_shl(u32::try_from(place).unwrap_or(8)).unwrap_or(0);
        }
        let keywords = DFA::builder().ascii_case_insensitive(true).build(&words).ok();
        Self { keywords, rules_of, bits, rules_of_bit, all }
    }

    /// The rules to be tried on a text, in their order.
    pub(super) fn candidates(&self, scope: RedactionScope, text: &str) -> Vec<usize> {
        let mut found = Vec::new();
        match &self.keywords {
            Some(keywords) => {
                let input = Input::new(text);
                let mut state = OverlappingState::start();
                let mut seen = Vec::new();
                // Searching without an anchor cannot fail: the automaton supports it.
                while keywords.try_find_overlapping(&input, &mut state).is_ok()
                    && let Some(keyword) = state.get_match()
                {
                    let keyword = keyword.pattern().as_usize();
                    seen.resize(self.rules_of.len(), false);
                    if !std::mem::replace(&mut seen[keyword], true) {
                        found.extend(&self.rules_of[keyword]);
                    }
                }
            }
            None => found.extend(0..self.all.len()),
        }
        if scope > RedactionScope::Identity {
            let mut there = text.bytes().fold(0, |there, byte| there | self.bits[usize::from(byte)]);
            while there != 0 {
                found.extend(&self.rules_of_bit[there.trailing_zeros() as usize]);
                there &= there - 1;
            }
        }
        found.sort_unstable();
        found.dedup();
        found.retain(|at| self.all[*at].scope() <= scope && self.all[*at].is_worth_trying(text));
        found
    }

    /// Whether a mark can be one of ours.
    pub(super) fn knows(&self, category: &str, rule: &str) -> bool {
        (category, rule) == ("token", super::EXACT)
            || self.all.iter().any(|known| (known.category(), known.name()) == (category, rule))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_compiles_within_its_limits() {
        for rule in &Rules::get().all {
            assert!(rule.regex().is_some(), "{}", rule.name());
        }
        assert!(Rules::get().keywords.is_some());
    }

    #[test]
    fn single_characters_are_few_and_ask_for_no_secrets() {
        let rules = Rules::get();
        assert!(rules.rules_of_bit.len() <= 8);
        assert!(rules.rules_of_bit.iter().flatten().all(|at| !rules.all[*at].finds_secrets()));
    }

    #[test]
    fn a_text_without_keywords_is_tried_with_no_rule() {
        assert!(Rules::get().candidates(RedactionScope::Metadata, "handle of an open folder").is_empty());
        assert!(!Rules::get().candidates(RedactionScope::Identity, "the PassWord is").is_empty());
    }
}
