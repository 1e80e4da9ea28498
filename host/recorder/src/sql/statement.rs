//! What a query may be, decided on the tree that DuckDB's own parser makes of it, never on its text.

use duckdb::Connection;
use serde_json::Value;

use super::session::QueryProblem;
use super::views::VIEWS;

/// Functions that make tables and reach nothing but their arguments. DuckDB has others that read files, settings and,
/// by `arrow_scan`, any address in memory; so those that are not listed are refused, whatever a later version adds.
const TABLE_FUNCTIONS: [&str; 5] = ["unnest", "range", "generate_series", "json_each", "json_tree"];

/// Parts of a FROM clause that are made of others, or of nothing.
const COMPOSED: [&str; 6] = ["JOIN", "SUBQUERY", "EXPRESSION_LIST", "EMPTY", "PIVOT", "CTE"];

/// Accepts one statement that only reads the views.
pub(super) fn check(connection: &Connection, sql: &str) -> Result<(), QueryProblem> {
    if sql.contains('\0') {
        return Err(QueryProblem::query("the query holds a zero byte"));
    }
    let parsed: String = connection
        .query_row("SELECT CAST(json_serialize_sql(CAST(? AS VARCHAR)) AS VARCHAR)", [sql], |row| row.get(0))
        .map_err(|error| QueryProblem::duckdb(&error))?;
    // The parser of JSON goes no deeper than 128 levels.
    let parsed: Value =
        serde_json::from_str(&parsed).map_err(|_| QueryProblem::query("the query is nested too deeply"))?;
    if parsed["error"] != false {
        let problem = parsed["error_message"].as_str().unwrap_or_default();
        return Err(match problem.starts_with("Only SELECT") {
            true => QueryProblem::query("only SELECT is possible here"),
            false => QueryProblem::query(problem),
        });
    }
    match parsed["statements"].as_array().map(Vec::as_slice) {
        Some([statement]) => {
            let mut names = Vec::new();
            with_names(statement, &mut names);
            // A name counts everywhere in the query, also where DuckDB does not know it and would look for a file.
            let plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || c == '_');
            if let Some(name) = names.iter().find(|name| !plain(name)) {
                let problem = format!("WITH cannot name anything `{name}`; letters, digits and _ make a name");
                return Err(QueryProblem::query(problem));
            }
            tables(statement, &names)
        }
        Some([]) | None => Err(QueryProblem::query("there is no query")),
        Some(_) => Err(QueryProblem::query("only one statement is possible at a time")),
    }
}

/// Names that WITH gives to parts of the query.
fn with_names<'a>(node: &'a Value, names: &mut Vec<&'a str>) {
    match node {
        Value::Object(fields) => {
            if let Some(entries) = fields.get("cte_map").and_then(|map| map["map"].as_array()) {
                names.extend(entries.iter().filter_map(|entry| entry["key"].as_str()));
            }
            fields.values().for_each(|value| with_names(value, names));
        }
        Value::Array(values) => values.iter().for_each(|value| with_names(value, names)),
        _ => {}
    }
}

/// Refuses everything in FROM clauses that is not known to be harmless.
fn tables(node: &Value, names: &[&str]) -> Result<(), QueryProblem> {
    match node {
        Value::Array(values) => values.iter().try_for_each(|value| tables(value, names)),
        Value::Object(fields) => {
            // What stands in a FROM clause, and only that, has both of these.
            if fields.contains_key("sample") && fields.contains_key("alias") {
                table(node, names)?;
            }
            fields.values().try_for_each(|value| tables(value, names))
        }
        _ => Ok(()),
    }
}

fn table(node: &Value, names: &[&str]) -> Result<(), QueryProblem> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match node["type"].as_str().unwrap_or_default() {
        "BASE_TABLE" => {
            let (name, schema, catalog) =
                (text(&node["table_name"]), text(&node["schema_name"]), text(&node["catalog_name"]));
            let is = |known: &str| known.eq_ignore_ascii_case(&name);
            let known = VIEWS.iter().any(|view| is(view.name)) || names.iter().any(|known| is(known));
            if known && schema.is_empty() && catalog.is_empty() {
                return Ok(());
            }
            let full =
                [catalog, schema, name].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
            let views = VIEWS.map(|view| view.name).join(", ");
            Err(QueryProblem::query(format!("there is no table `{full}`; there are {views}")))
        }
        "TABLE_FUNCTION" => {
            let name = text(&node["function"]["function_name"]);
            if TABLE_FUNCTIONS.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
                return Ok(());
            }
            let known = TABLE_FUNCTIONS.join(", ");
            Err(QueryProblem::query(format!("`{name}` cannot be selected from; of functions there are {known}")))
        }
        known if COMPOSED.contains(&known) => Ok(()),
        "SHOW_REF" => Err(QueryProblem::query("only SELECT is possible here")),
        other => Err(QueryProblem::query(format!("a FROM clause cannot have a part of the kind {other}"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn checked(sql: &str) -> Result<(), String> {
        check(&Connection::open_in_memory().unwrap(), sql).map_err(|problem| problem.message)
    }

    #[test]
    fn selects_over_the_views_pass() {
        for sql in [
            "SELECT * FROM events",
            "FROM Decisions",
            "select count(*) from events e join decisions d using (event_id) where e.seq > 1; -- that is all",
            "WITH x AS (SELECT * FROM runs), y AS (FROM x) SELECT (SELECT max(seq) FROM events) FROM y, unnest([1, 2])",
            "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT n FROM t",
            "VALUES (1), (2)",
            "SELECT 1",
            "SELECT * FROM events TABLESAMPLE 1%",
            "SELECT k.key FROM events, json_each(event) k",
            "SELECT 'read_csv(''/etc/passwd'')' AS harmless",
            "SELECT * FROM events ORDER BY seq LIMIT 3 OFFSET 1",
            "SELECT * FROM (PIVOT decisions ON outcome IN ('allow', 'deny') USING count(*))",
            "SELECT 1 UNION SELECT 2 EXCEPT SELECT seq FROM events",
        ] {
            assert_eq!(checked(sql), Ok(()), "{sql}");
        }
    }

    #[test]
    fn everything_else_is_refused_wherever_it_stands() {
        for sql in [
            "",
            ";",
            "-- nothing",
            "SELECT 1; SELECT 2",
            "ATTACH 'x.db'",
            "COPY events TO 'x.csv'",
            "COPY (SELECT 1) TO 'x.csv'",
            "CREATE TABLE x AS SELECT 1",
            "INSTALL httpfs",
            "LOAD httpfs",
            "PRAGMA version",
            "SET threads = 4",
            "CALL pragma_version()",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT 1",
            "SHOW TABLES",
            "DESCRIBE events",
            "SUMMARIZE events",
            "DELETE FROM events",
            "WITH x AS (DELETE FROM events RETURNING *) SELECT * FROM x",
            "EXECUTE x",
            "EXPORT DATABASE 'x'",
            "SELECT * FROM read_csv('/etc/passwd')",
            "SELECT * FROM READ_TEXT('/etc/passwd')",
            "SELECT * FROM \"read_blob\"('/etc/passwd')",
            "SELECT * FROM main.read_text('/etc/passwd')",
            "SELECT * FROM glob('/*')",
            "SELECT * FROM '/etc/passwd'",
            "SELECT * FROM '/etc/x.parquet'",
            "SELECT * FROM 'https://example.com/x.parquet'",
            "SELECT * FROM arrow_scan(1, 2, 3)",
            "SELECT * FROM query('SELECT 1')",
            "SELECT * FROM query_table('events')",
            "SELECT * FROM json_execute_serialized_sql('x')",
            "SELECT * FROM duckdb_settings()",
            "SELECT * FROM records",
            "SELECT * FROM information_schema.tables",
            "SELECT * FROM memory.main.events",
            "SELECT (SELECT count(*) FROM read_text('/etc/passwd'))",
            "SELECT * FROM events WHERE EXISTS (FROM read_text('/etc/passwd'))",
            "SELECT * FROM events JOIN read_text('/etc/passwd') t ON true",
            "WITH x AS (FROM read_text('/etc/passwd')) FROM x",
            "WITH x AS (SELECT * FROM (SELECT * FROM (FROM glob('*')))) FROM x",
            "SELECT [(SELECT content FROM read_text(p)) FOR p IN ['/etc/passwd']]",
            "SELECT * FROM (PIVOT (FROM read_text('/etc/passwd')) ON size IN (1) USING count(*))",
            "FROM (SHOW TABLES)",
            "SELECT 1 ORDER BY (SELECT content FROM read_text('/etc/passwd'))",
            "SELECT 1 LIMIT (SELECT count(*) FROM glob('*'))",
            "VALUES ((SELECT content FROM read_text('/etc/passwd')))",
            "SELECT 1 UNION ALL SELECT content FROM read_text('/etc/passwd')",
            "SELECT 1 FROM events QUALIFY (SELECT true FROM glob('*'))",
            "WITH RECURSIVE t AS (SELECT 1 UNION ALL FROM glob('*')) FROM t",
            "SELECT 1 \0 FROM events",
        ] {
            assert!(checked(sql).is_err(), "{sql}");
        }
        let deep = format!("{}1{}", "SELECT (".repeat(300), ")".repeat(300));
        assert_eq!(checked(&deep).unwrap_err(), "the query is nested too deeply");
    }

    #[test]
    fn a_name_of_with_makes_no_file_a_table_elsewhere() {
        let sql = "SELECT (WITH \"x.parquet\" AS (SELECT 1) FROM \"x.parquet\"), (SELECT count(*) FROM \"x.parquet\")";
        assert_eq!(
            checked(sql).unwrap_err(),
            "WITH cannot name anything `x.parquet`; letters, digits and _ make a name"
        );
    }

    #[test]
    fn refusals_say_what_there_is() {
        assert_eq!(checked("COPY events TO 'x'").unwrap_err(), "only SELECT is possible here");
        assert_eq!(checked("SELECT 1; SELECT 2").unwrap_err(), "only one statement is possible at a time");
        assert_eq!(
            checked("SELECT * FROM user.records").unwrap_err(),
            "there is no table `user.records`; there are events, decisions, model_calls, spans, runs"
        );
        assert!(checked("SELEC 1").unwrap_err().contains("syntax error at or near \"SELEC\""));
    }
}
