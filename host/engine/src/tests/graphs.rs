//! Random workflows: every node runs once, after those it needs, and the same run gives the same outputs.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::doubles::*;

/// A workflow whose steps, in shuffled file order, read the outputs of some earlier ones.
fn workflows() -> impl Strategy<Value = (Vec<Vec<usize>>, Vec<usize>)> {
    (2_usize..9).prop_flat_map(|count| {
        let needs: Vec<_> = (0..count)
            .map(|step| proptest::sample::subsequence((0..step).collect::<Vec<_>>(), 0..=step.min(3)))
            .collect();
        (needs, Just((0..count).collect::<Vec<_>>()).prop_shuffle())
    })
}

fn text(needs: &[Vec<usize>], file_order: &[usize]) -> String {
    let mut text = "name: random\nsteps:\n".to_owned();
    for step in file_order {
        let inputs: Vec<_> =
            needs[*step].iter().map(|need| format!("s{need}: \"${{steps.s{need}.output}}\"")).collect();
        writeln!(text, "  - {{ id: s{step}, uses: summarize, with: {{ own: {step}, {} }} }}", inputs.join(", "))
            .unwrap();
    }
    text.push_str("outputs:\n");
    for step in file_order {
        writeln!(text, "  s{step}: \"${{steps.s{step}.output}}\"").unwrap();
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_node_runs_once_after_its_needs_and_runs_repeat((needs, file_order) in workflows()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let text = text(&needs, &file_order);
        let run = || {
            let bench = bench(|call| Act::Give(json!({ "saw": call.input })));
            let summary = runtime.block_on(bench.run(&text));
            (summary.job.job_outputs.map(|outputs| outputs.to_string()), bench.calls())
        };
        let (outputs, calls) = run();
        prop_assert!(outputs.is_some());
        let order: Vec<_> = calls.iter().map(|call| call.node.clone()).collect();
        prop_assert_eq!(order.len(), needs.len());
        for (step, its_needs) in needs.iter().enumerate() {
            let at = |step: usize| order.iter().position(|node| *node == format!("s{step}")).unwrap();
            for need in its_needs {
                prop_assert!(at(*need) < at(step));
            }
        }
        prop_assert_eq!(outputs, run().0);
    }
}
