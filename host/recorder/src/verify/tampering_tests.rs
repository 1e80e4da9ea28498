//! Whoever edits the record at random is found, wherever and however.

#![allow(clippy::unwrap_used)]

use super::*;

/// Numbers that follow from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to below the end.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }
}

/// Columns of the DuckDB file and something that none of its rows says there.
const COLUMNS: [(&str, &str); 16] = [
    ("host", "'another'"),
    ("recorded_at", "recorded_at + 1"),
    ("hash", "reverse(hash)"),
    ("event_id", "uuid()"),
    ("trace_id", "uuid()"),
    ("\"timestamp\"", "coalesce(\"timestamp\", 0) + 1"),
    ("actor_kind", "'human'"),
    ("actor_id", "'somebody'"),
    ("event_type", "'approval'"),
    ("job_id", "uuid()"),
    ("step_id", "'another'"),
    ("capability_id", "'fs.read'"),
    ("decision_outcome", "'allow'"),
    ("resource", "'elsewhere'"),
    ("surface", "'cli2'"),
    ("record", "replace(record, '\"seq\":', '\"seq\": ')"),
];

/// Edits the DuckDB file: a field, a deletion, a row twice, two rows exchanged, a tail cut off.
async fn edit_rows(host: &Host, random: &mut Random) -> String {
    let seq = random.between(101, 331);
    let sql = match random.below(5) {
        0 => format!("DELETE FROM events WHERE seq = {seq}"),
        1 => format!("INSERT INTO events SELECT * FROM events WHERE seq = {seq}"),
        2 => {
            let other = 101 + (seq - 101 + random.between(1, 230)) % 231;
            format!("UPDATE events SET seq = {seq} + {other} - seq WHERE seq IN ({seq}, {other})")
        }
        3 => format!("DELETE FROM events WHERE seq >= {seq}"),
        _ => {
            let (column, value) = COLUMNS[random.below(COLUMNS.len() as u64) as usize];
            format!("UPDATE events SET {column} = {value} WHERE seq = {seq}")
        }
    };
    host.projection.execute(sql.clone()).await;
    sql
}

/// Edits a file of a segment: a bit, a tail cut off, all of it, or another's content.
fn edit_segment(bench: &Bench, random: &mut Random) -> String {
    let segments = [(101, 200), (201, 300)];
    let at = random.below(2) as usize;
    let kind = ["parquet", "json"][random.below(2) as usize];
    let path = bench.segment(segments[at].0, segments[at].1, kind);
    let mut content = std::fs::read(&path).unwrap();
    let what = match random.below(4) {
        0 => {
            let byte = random.below(content.len() as u64) as usize;
            // In half of the cases the bit that makes a letter of a digest or a signature a large one.
            content[byte] ^= if random.below(2) == 0 { 0x20 } else { 1 << random.below(8) };
            format!("a bit of byte {byte}")
        }
        1 => {
            content.truncate(random.below(content.len() as u64) as usize);
            format!("cut to {} bytes", content.len())
        }
        2 => {
            std::fs::remove_file(&path).unwrap();
            return format!("{} is gone", path.display());
        }
        _ => {
            content = std::fs::read(bench.segment(segments[1 - at].0, segments[1 - at].1, kind)).unwrap();
            "the other's content".to_owned()
        }
    };
    std::fs::write(&path, content).unwrap();
    format!("{}: {what}", path.display())
}

/// Edits the outbox: a character of a record, a column, a deletion, two records exchanged, a tail cut off.
fn edit_outbox(bench: &Bench, random: &mut Random) -> String {
    let seq = random.between(301, 331);
    match random.below(6) {
        0 => {
            let mut at = 0;
            bench.outbox.tamper(seq, |record| {
                let digits: Vec<usize> =
                    record.record.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(at, _)| at).collect();
                at = digits[random.below(digits.len() as u64) as usize];
                let digit = (record.record.as_bytes()[at] - b'0' + 1 + random.below(9) as u8) % 10;
                record.record.replace_range(at..=at, &digit.to_string());
            });
            format!("outbox {seq}: digit at {at}")
        }
        1 => {
            bench.outbox.tamper(seq, |record| record.hash = Digest::of(&random.next().to_le_bytes()));
            format!("outbox {seq}: hash")
        }
        2 => {
            bench.outbox.tamper(seq, |record| record.recorded_at = record.recorded_at.plus(Duration::from_micros(1)));
            format!("outbox {seq}: time")
        }
        3 => {
            bench.outbox.edit(|records| records.retain(|record| record.seq != seq));
            format!("outbox {seq}: gone")
        }
        4 => {
            let other = 301 + (seq - 301 + random.between(1, 30)) % 31;
            bench.outbox.edit(|records| {
                let (a, b) = (position(records, seq), position(records, other));
                records.swap(a, b);
                let first = records[a].seq;
                records[a].seq = records[b].seq;
                records[b].seq = first;
            });
            format!("outbox {seq} and {other}: exchanged")
        }
        _ => {
            bench.outbox.edit(|records| records.retain(|record| record.seq < seq));
            format!("outbox from {seq}: cut off")
        }
    }
}

fn position(records: &[StampedEvent], seq: u64) -> usize {
    records.iter().position(|record| record.seq == seq).unwrap()
}

/// `HANDSHAKE_SOAK` makes it a thousand edits.
#[tokio::test]
async fn random_edits_of_rows_segments_and_outbox_are_found_with_an_outside_head() {
    let edits = if std::env::var_os("HANDSHAKE_SOAK").is_some() { 1000 } else { 24 };
    let fresh = std::collections::hash_map::RandomState::new();
    let fresh = std::hash::BuildHasher::hash_one(&fresh, 0);
    println!("seed of the second half: {fresh}");
    for round in 0..edits {
        let seed = if round < edits / 2 { round } else { fresh.wrapping_add(round) };
        let mut random = Random(seed);
        let bench = Bench::new().await;
        let head = bench.head();
        let what = if round % 3 == 0 {
            let host = bench.open().await;
            host.projection.wait_for(331).await.unwrap();
            let what = edit_rows(&host, &mut random).await;
            let verified = host.verify(Some(head)).await;
            assert!(verified.finding.is_some(), "seed {seed}: {what}");
            continue;
        } else if round % 3 == 1 {
            edit_segment(&bench, &mut random)
        } else {
            edit_outbox(&bench, &mut random)
        };
        let host = bench.open().await;
        let verified = host.verify(Some(head)).await;
        assert!(verified.finding.is_some(), "seed {seed}: {what}");
    }
}
