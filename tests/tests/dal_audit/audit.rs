//! The rules for SQL, over a checkout. Each violation is `path:line: what`.

use std::collections::BTreeMap;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use sqlparser::ast::{AlterTableOperation, ColumnDef, Statement};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};
use syn::visit::{self, Visit};

/// Files that say to one backend what the other would not understand.
const DIALECTS: &[&str] = &["host/storage/src/sqlite.rs", "host/storage/src/postgres.rs", "host/storage/src/dialect/"];

/// The types that both backends store alike.
const TYPES: &[&str] = &["TEXT", "BIGINT", "BOOLEAN", "DOUBLE PRECISION"];

/// Where a word must not stand.
enum Place {
    Anywhere,
    /// As the first of a statement.
    First,
    /// Before a parenthesis.
    Called,
    /// After `AS`.
    Cast,
}

/// Words that must not be used, and why.
const WORDS: &[(Place, &str, &str)] = &[
    (Place::Anywhere, "PRAGMA AUTOINCREMENT ROWID _ROWID_ GLOB REGEXP", "is SQLite's"),
    (Place::Anywhere, "ILIKE SIMILAR ARRAY", "is PostgreSQL's"),
    (Place::Anywhere, "RETURNING", "differs in order and in what it sees"),
    (Place::Anywhere, "LIKE", "ignores case on SQLite alone"),
    (Place::Anywhere, "TRIGGER", "is written differently, and hides effects"),
    (
        Place::Anywhere,
        "CURRENT_TIMESTAMP CURRENT_DATE CURRENT_TIME LOCALTIME LOCALTIMESTAMP",
        "is not the host's clock: bind the time",
    ),
    (
        Place::Called,
        "NOW DATETIME DATE TIME JULIANDAY STRFTIME UNIXEPOCH AGE EXTRACT DATE_PART DATE_TRUNC CLOCK_TIMESTAMP \
         TO_TIMESTAMP",
        "is not the host's clock: bind the time",
    ),
    (Place::Called, "RANDOM RANDOMBLOB GEN_RANDOM_UUID", "is not the host's randomness: bind the value"),
    (Place::Called, "LOWER UPPER", "knows letters beyond ASCII on PostgreSQL alone"),
    (
        Place::Called,
        "INSTR STRPOS POSITION CHAR CHR UNICODE ASCII HEX UNHEX ENCODE DECODE QUOTE PRINTF FORMAT CONCAT \
         CONCAT_WS GROUP_CONCAT STRING_AGG LEFT RIGHT LPAD RPAD TO_CHAR INITCAP IFNULL IIF TOTAL TYPEOF GREATEST \
         LEAST JSON_EXTRACT CHANGES",
        "exists or behaves differently on the other backend",
    ),
    (
        Place::Cast,
        "INTEGER INT SMALLINT REAL FLOAT NUMERIC DECIMAL VARCHAR DATETIME TIMESTAMP",
        "is another type on the other backend",
    ),
    (Place::First, "REPLACE ATTACH DETACH VACUUM REINDEX", "is SQLite's"),
    (Place::First, "LISTEN NOTIFY COPY TRUNCATE LOCK", "is PostgreSQL's"),
];

/// What a statement, or a piece of one, begins with in the code.
const BEGINNINGS: &str = "SELECT INSERT UPDATE DELETE REPLACE MERGE WITH CREATE ALTER DROP PRAGMA BEGIN COMMIT \
    ROLLBACK SAVEPOINT RELEASE ATTACH DETACH VACUUM REINDEX ANALYZE EXPLAIN LISTEN NOTIFY \
    COPY TRUNCATE LOCK SET VALUES FROM WHERE AND OR ON JOIN INNER LEFT CROSS GROUP HAVING \
    ORDER LIMIT OFFSET UNION EXCEPT INTERSECT RETURNING CASE";

/// The same in small letters, with enough of it to tell it from a message.
const SMALL_BEGINNINGS: &[&str] = &[
    "select ",
    "insert into ",
    "insert or ",
    "replace into ",
    "delete from ",
    "create table ",
    "create index ",
    "create unique ",
    "create trigger ",
    "create view ",
    "alter table ",
    "drop table ",
    "drop index ",
    "pragma ",
];

/// Everything in a checkout that the rules forbid.
pub(crate) fn violations(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut audit = Audit { path: String::new(), found: Vec::new() };
    audit.migrations(&root.join("migrations"))?;
    audit.sources(root, &root.join("host/storage/src"))?;
    Ok(audit.found)
}

struct Audit {
    /// The file that is looked at.
    path: String,
    found: Vec<String>,
}

impl Audit {
    fn report(&mut self, line: usize, what: impl std::fmt::Display) {
        self.found.push(format!("{}:{line}: {what}", self.path));
    }

    fn migrations(&mut self, folder: &Path) -> anyhow::Result<()> {
        let (mut ups, mut downs) = (BTreeMap::new(), BTreeMap::new());
        for name in names(folder)? {
            self.path = format!("migrations/{name}");
            let text = std::fs::read_to_string(folder.join(&name))?;
            let stem = name.strip_suffix(".sql").unwrap_or_default();
            let (stem, direction) = stem.strip_suffix(".down").map_or((stem, &mut ups), |stem| (stem, &mut downs));
            let number = stem.split_once('_').filter(|(number, what)| number.len() == 4 && !what.is_empty());
            match number.and_then(|(number, _)| number.parse::<usize>().ok()) {
                None => self.report(1, "not named `0001_what.sql` or `0001_what.down.sql`"),
                Some(number) => {
                    if direction.insert(number, stem.to_owned()).is_some() {
                        self.report(1, format_args!("number {number} is taken"));
                    }
                }
            }
            if let Some(line) = text.split('\n').position(|line| line.contains('\r')) {
                self.report(line + 1, "a carriage return: lines end with LF");
            }
            self.migration(&text);
        }
        for (expected, (number, stem)) in (1..).zip(&ups) {
            self.path = format!("migrations/{stem}.sql");
            if *number != expected {
                self.report(1, format_args!("number {expected} is missing before it"));
                break;
            }
        }
        for (these, those, suffix, other) in [(&ups, &downs, "", ".down"), (&downs, &ups, ".down", "")] {
            for stem in these.values().filter(|stem| !those.values().any(|that| that == *stem)) {
                self.path = format!("migrations/{stem}{suffix}.sql");
                self.report(1, format_args!("`{stem}{other}.sql` is missing"));
            }
        }
        Ok(())
    }

    /// A migration changes tables and indexes, with types that both backends have, and nothing else.
    fn migration(&mut self, text: &str) {
        for tokens in self.statements(1, text) {
            let line = line(&tokens[0]);
            let statement = Parser::new(&GenericDialect {}).with_tokens_with_locations(tokens).parse_statement();
            match statement {
                Ok(Statement::CreateTable(table)) if table.query.is_none() => {
                    table.columns.iter().for_each(|column| self.column(column))
                }
                Ok(Statement::AlterTable(table)) => {
                    for operation in &table.operations {
                        if let AlterTableOperation::AddColumn { column_def, .. } = operation {
                            self.column(column_def);
                        }
                    }
                }
                Ok(Statement::CreateIndex(_) | Statement::Drop { .. }) => {}
                Ok(_) => self.report(line, "migrations change tables and indexes; data is the host's to change"),
                Err(error) => self.report(line, format_args!("cannot be read: {error}")),
            }
        }
    }

    fn column(&mut self, column: &ColumnDef) {
        let data_type = column.data_type.to_string();
        if !TYPES.contains(&data_type.as_str()) {
            let line = usize::try_from(column.name.span.start.line).unwrap_or_default();
            self.report(line, format_args!("`{}` is `{data_type}`; types are {}", column.name, TYPES.join(", ")));
        }
    }

    /// Checks every Rust file below a folder, except for tests and dialects.
    fn sources(&mut self, root: &Path, folder: &Path) -> anyhow::Result<()> {
        for name in names(folder)? {
            let path = folder.join(&name);
            self.path = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
            if path.is_dir() {
                self.sources(root, &path)?;
            } else if name.ends_with(".rs")
                && !name.ends_with("_tests.rs")
                && !DIALECTS.iter().any(|dialect| self.path.starts_with(dialect))
            {
                let mut literals = Literals(Vec::new());
                literals.visit_file(&syn::parse_file(&std::fs::read_to_string(&path)?)?);
                for (line, sql) in literals.0.iter().filter(|(_, text)| is_sql(text)) {
                    for tokens in self.statements(*line, sql) {
                        // One word alone is not a statement.
                        let first = word(&tokens[0]).filter(|_| tokens.len() > 1);
                        if let Some(first @ ("CREATE" | "ALTER" | "DROP")) = first.as_deref() {
                            self.report(*line, format_args!("`{first}` belongs in a migration"));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Splits SQL into statements, without comments, after checking what stands in them.
    fn statements(&mut self, first_line: usize, sql: &str) -> Vec<Vec<TokenWithSpan>> {
        let tokens = match Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() {
            Ok(tokens) => tokens,
            Err(error) => {
                self.report(first_line, format_args!("cannot be read as SQL: {error}"));
                return Vec::new();
            }
        };
        let tokens: Vec<_> = tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
        let statements = tokens.split(|token| token.token == Token::SemiColon).filter(|tokens| !tokens.is_empty());
        let statements: Vec<_> = statements.map(<[_]>::to_vec).collect();
        for statement in &statements {
            for at in 0..statement.len() {
                if let Some(what) = forbidden(statement, at) {
                    self.report(first_line + line(&statement[at]) - 1, what);
                }
            }
        }
        statements
    }
}

/// Why the token at a place in a statement is forbidden, if it is.
fn forbidden(statement: &[TokenWithSpan], at: usize) -> Option<String> {
    let token = &statement[at];
    let after = |expected: &str| at > 0 && word(&statement[at - 1]).as_deref() == Some(expected);
    match &token.token {
        Token::Placeholder(name) if name.starts_with('$') => None,
        Token::Placeholder(_) | Token::Question | Token::Colon => {
            Some(format!("`{}`: placeholders are `$1`, `$2`", token.token))
        }
        Token::DoubleColon => Some("`::` is PostgreSQL's: say `CAST`".into()),
        Token::Arrow | Token::LongArrow => Some(format!("`{}` gives different values", token.token)),
        Token::Word(_) => {
            let word = word(token)?;
            if word.starts_with('@') {
                return Some(format!("`{word}`: placeholders are `$1`, `$2`"));
            }
            if word == "OR" && after("INSERT") {
                return Some("`INSERT OR` is SQLite's: say `ON CONFLICT`".into());
            }
            let stands = |place: &Place| match place {
                Place::Anywhere => true,
                Place::First => at == 0,
                Place::Called => statement.get(at + 1).is_some_and(|next| next.token == Token::LParen),
                Place::Cast => after("AS"),
            };
            let rule = WORDS.iter().find(|(place, words, _)| stands(place) && words.split(' ').any(|one| one == word));
            rule.map(|(_, _, why)| format!("`{word}` {why}"))
        }
        _ => None,
    }
}

fn line(token: &TokenWithSpan) -> usize {
    usize::try_from(token.span.start.line).unwrap_or_default()
}

/// A word in capitals; quotes around a name do not make it another one.
fn word(token: &TokenWithSpan) -> Option<String> {
    match &token.token {
        Token::Word(Word { value, .. }) => Some(value.to_uppercase()),
        _ => None,
    }
}

/// Whether a text of the code is SQL, or a piece of it.
fn is_sql(text: &str) -> bool {
    let text = text.trim_start_matches(|letter: char| letter.is_whitespace() || letter == '(');
    let first = text.split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default();
    let small = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let is_name = |name: &str| {
        let name = name.trim();
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.$?".contains(letter))
    };
    BEGINNINGS.split(' ').any(|beginning| beginning == first)
        || SMALL_BEGINNINGS.iter().any(|beginning| small.starts_with(beginning))
        || (small.starts_with("update ") && small.contains(" set "))
        // A list of columns that several statements share.
        || (text.contains(',') && text.split(',').all(is_name))
}

/// The texts of a file with their lines, without tests, attributes and comments.
struct Literals(Vec<(usize, String)>);

impl Literals {
    /// What stands in macros is not parsed, so its tokens are looked through.
    fn tokens(&mut self, tokens: &TokenStream) {
        let mut attribute = false;
        for tree in tokens.clone() {
            match tree {
                TokenTree::Group(group) if !(attribute && group.delimiter() == Delimiter::Bracket) => {
                    self.tokens(&group.stream())
                }
                TokenTree::Literal(literal) => {
                    if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                        self.0.push((literal.span().start().line, text.value()));
                    }
                }
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    attribute = true;
                    continue;
                }
                _ => {}
            }
            attribute = false;
        }
    }
}

impl<'ast> Visit<'ast> for Literals {
    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        self.0.push((literal.span().start().line, literal.value()));
    }
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(&call.tokens);
    }
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_for_tests(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_item_fn(self, function);
        }
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = attribute.meta.require_list().map(|list| list.tokens.to_string());
        attribute.path().is_ident("cfg") && condition.is_ok_and(|condition| condition == "test")
    })
}

fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let names = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
