//! Content: storing, listing, changing and deleting it.

use std::time::Duration;

use handshake_core::content::*;
use handshake_core::storage::{ContentStore, Page};
use handshake_core::{BlockId, CanvasEdgeId, CanvasId, CanvasNodeId, Clock, DocumentId, EventId, Ids, WorkspaceId};
use handshake_tests::storage::World;
use serde_json::{Value, json};

use crate::desk::{Desk, create, delete, is_invalid, is_missing, update};

const ODD: &str = "“Größe” 漢字 🎉 \u{202e} e\u{301} \\u0000 '; DROP TABLE blocks; --\r\n\t\"$1\" %s";

pub(crate) async fn content_comes_back_as_it_was_stored(world: World) {
    let desk = Desk::new(world);
    let store = desk.world.database.clone();
    let large = "ä".repeat(MAX_CONTENT_BYTES / 2);
    for (name, content) in [(ODD, ODD), ("", ""), (&*"x".repeat(1024), large.as_str())] {
        let mut tree = desk.tree();
        tree.workspace.name = name.into();
        tree.document.title = name.into();
        tree.canvas.title = name.into();
        tree.block.raw_content = content.into();
        tree.block.display_content = content.into();
        tree.node.content = content.into();
        for content in tree.contents() {
            let before = desk.world.clock.now();
            let written = desk.edit(vec![create(content)]).await;
            assert_eq!((written.len(), desk.world.clock.now()), (1, before));
        }
        assert_eq!(store.workspace(tree.workspace.workspace_id).await.unwrap().content, tree.workspace);
        assert_eq!(store.document(tree.document.document_id).await.unwrap().content, tree.document);
        assert_eq!(store.block(tree.block.block_id).await.unwrap().content, tree.block);
        assert_eq!(store.canvas(tree.canvas.canvas_id).await.unwrap().content, tree.canvas);
        let nodes = store.canvas_nodes(tree.canvas.canvas_id).await.unwrap();
        assert_eq!(nodes.into_iter().map(|node| node.content).collect::<Vec<_>>(), [tree.node, tree.other]);
        let edges = store.canvas_edges(tree.canvas.canvas_id).await.unwrap();
        assert_eq!(edges[0].content, tree.edge);
        assert_eq!((edges[0].created_at, edges[0].updated_at), (desk.world.clock.now(), desk.world.clock.now()));
    }
}

pub(crate) async fn numbers_and_enums_come_back_exactly(world: World) {
    let desk = Desk::new(world);
    let (store, tree) = (desk.world.database.clone(), desk.stored_tree().await);
    for sequence in [i64::MIN, -1, 0, i64::MAX] {
        for sensitivity in Sensitivity::ALL {
            let exportable = sequence == 0;
            let block = ContentBlock { sensitivity: *sensitivity, exportable, ..desk.block(&tree.document, sequence) };
            desk.edit(vec![create(block.clone())]).await;
            assert_eq!(store.block(block.block_id).await.unwrap().content, block);
        }
    }
    for derived in [
        Value::Null,
        json!(""),
        json!([]),
        json!({ "": [ODD, -0.0, 0.1, 1e300, f64::MIN_POSITIVE, u64::MAX, i64::MIN, null, true, { "ö": {} }] }),
    ] {
        let block = ContentBlock { derived_content: derived.clone(), ..desk.block(&tree.document, 1) };
        desk.edit(vec![create(block.clone())]).await;
        let stored = store.block(block.block_id).await.unwrap().content.derived_content;
        assert_eq!(stored.to_string(), derived.to_string());
    }
    let numbers = [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, 0.1 + 0.2, 9_007_199_254_740_993.0, -1e18, 0.0];
    for number in numbers {
        let node = CanvasNode { x: number, y: -number, width: number, height: number, ..tree.node.clone() };
        desk.edit(vec![update(node)]).await;
        let stored = &store.canvas_nodes(tree.canvas.canvas_id).await.unwrap()[0].content;
        let bits = [stored.x, -stored.y, stored.width, stored.height].map(f64::abs).map(f64::to_bits);
        assert_eq!(bits, [number.abs().to_bits(); 4], "{number:e}");
        assert_eq!((stored.x, stored.y), (number, -number));
    }
    desk.edit(vec![update(CanvasNode { x: -0.0, ..tree.node.clone() })]).await;
    let stored = &store.canvas_nodes(tree.canvas.canvas_id).await.unwrap()[0].content;
    assert_eq!(stored.x.to_bits(), 0.0_f64.to_bits(), "minus zero is stored as zero");
}

pub(crate) async fn content_that_cannot_be_stored_is_refused_in_every_field(world: World) {
    let desk = Desk::new(world);
    let tree = desk.stored_tree().await;
    let (block, node) = (desk.block(&tree.document, 1), desk.node(&tree.canvas));
    let nul = || "a\0b".to_owned();
    let mut bad: Vec<Content> = vec![
        desk.workspace("\0").into(),
        desk.document(&tree.workspace, "\0").into(),
        desk.canvas(&tree.workspace, "\0").into(),
        ContentBlock { kind: nul(), ..block.clone() }.into(),
        ContentBlock { raw_content: nul(), ..block.clone() }.into(),
        ContentBlock { display_content: nul(), ..block.clone() }.into(),
        ContentBlock { derived_content: json!([{ "a": nul() }]), ..block.clone() }.into(),
        ContentBlock { derived_content: json!({ "\0": 1 }), ..block.clone() }.into(),
        ContentBlock { raw_content: "x".repeat(MAX_CONTENT_BYTES + 1), ..block }.into(),
        CanvasNode { kind: nul(), ..node.clone() }.into(),
        CanvasNode { content: nul(), ..node.clone() }.into(),
        CanvasEdge { kind: nul(), ..desk.edge(&tree.node, &tree.other) }.into(),
    ];
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        bad.push(CanvasNode { x: number, ..node.clone() }.into());
        bad.push(CanvasNode { y: number, ..node.clone() }.into());
        bad.push(CanvasNode { width: number, ..node.clone() }.into());
        bad.push(CanvasNode { height: number, ..node.clone() }.into());
    }
    let (before, events) = (desk.everything().await, desk.events().await.len());
    for content in bad {
        for change in [create(content.clone()), update(content)] {
            let refused = desk.try_edit(vec![change]).await;
            assert!(is_invalid(&refused), "{refused:?}");
        }
    }
    let nameless = handshake_core::edit::EditContext { actor_id: nul(), ..desk.human() };
    assert!(is_invalid(&desk.editor.edit(nameless, vec![create(desk.workspace("w"))]).await));
    assert!(is_invalid(&desk.try_edit(vec![]).await));
    assert_eq!((desk.everything().await, desk.events().await.len()), (before, events));
}

pub(crate) async fn lists_of_content_are_newest_first_and_page_without_gaps(world: World) {
    let desk = Desk::new(world);
    let store = desk.world.database.clone();
    let (mut workspaces, mut documents, mut canvases) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..7 {
        if n % 3 == 0 {
            desk.world.clock.advance(Duration::from_secs(1));
        }
        let workspace = desk.workspace(&format!("{}", 9 - n));
        desk.edit(vec![create(workspace.clone())]).await;
        let now = desk.world.clock.now();
        workspaces.push((now, workspace.workspace_id));
        let home = if n < 4 { workspace.workspace_id } else { workspaces[0].1 };
        let (mut document, mut canvas) = (desk.document(&workspace, "d"), desk.canvas(&workspace, "c"));
        (document.workspace_id, canvas.workspace_id) = (home, home);
        documents.push((now, document.document_id, home));
        canvases.push((now, canvas.canvas_id, home));
        desk.edit(vec![create(document), create(canvas)]).await;
    }
    workspaces.sort_by_key(|row| std::cmp::Reverse((row.0, row.1)));
    documents.sort_by_key(|row| std::cmp::Reverse((row.0, row.1)));
    canvases.sort_by_key(|row| std::cmp::Reverse((row.0, row.1)));

    /// Reads a list page by page.
    macro_rules! pages {
        ($page:ident => $list:expr, $id:ident) => {{
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let $page = &Page { limit: 2, after };
                let rows = $list.await.unwrap();
                assert!(rows.len() <= 2);
                let Some(last) = rows.last() else { break found };
                after = Some(last.content.$id);
                found.extend(rows.into_iter().map(|row| row.content.$id));
            }
        }};
    }
    let found = pages!(page => store.workspaces(page), workspace_id);
    assert_eq!(found, workspaces.iter().map(|row| row.1).collect::<Vec<_>>());
    let unknown = WorkspaceId::fresh(&*desk.world.ids);
    for of in [None, Some(workspaces[6].1), Some(workspaces[5].1), Some(unknown)] {
        let within = |home: &WorkspaceId| of.is_none_or(|of| of == *home);
        let found = pages!(page => store.documents(of, page), document_id);
        assert_eq!(found, documents.iter().filter(|row| within(&row.2)).map(|row| row.1).collect::<Vec<_>>());
        let found = pages!(page => store.canvases(of, page), canvas_id);
        assert_eq!(found, canvases.iter().filter(|row| within(&row.2)).map(|row| row.1).collect::<Vec<_>>());
    }
    let behind = Page { limit: 0, after: Some(unknown) };
    assert!(is_missing(&store.workspaces(&behind).await, "workspace"));
    assert_eq!(store.workspaces(&Page::default()).await.unwrap().len(), 7);
}

pub(crate) async fn blocks_nodes_and_edges_have_their_own_order(world: World) {
    let desk = Desk::new(world);
    let (store, tree) = (desk.world.database.clone(), desk.stored_tree().await);
    let mut blocks = vec![(tree.block.sequence, tree.block.block_id)];
    for sequence in [5, i64::MAX, -3, 5, 0, i64::MIN] {
        let block = desk.block(&tree.document, sequence);
        blocks.push((sequence, block.block_id));
        desk.edit(vec![create(block)]).await;
    }
    blocks.sort();
    let found = store.blocks(tree.document.document_id).await.unwrap();
    let found: Vec<_> = found.into_iter().map(|row| (row.content.sequence, row.content.block_id)).collect();
    assert_eq!(found, blocks);

    let (mut nodes, mut edges) = (vec![tree.node.node_id, tree.other.node_id], vec![tree.edge.edge_id]);
    for _ in 0..3 {
        desk.world.clock.advance(Duration::from_secs(1));
        let (node, edge) = (desk.node(&tree.canvas), desk.edge(&tree.other, &tree.other));
        nodes.push(node.node_id);
        edges.push(edge.edge_id);
        desk.edit(vec![create(edge), create(node)]).await;
    }
    let canvas = tree.canvas.canvas_id;
    let found = store.canvas_nodes(canvas).await.unwrap();
    assert_eq!(found.into_iter().map(|row| row.content.node_id).collect::<Vec<_>>(), nodes);
    let found = store.canvas_edges(canvas).await.unwrap();
    assert_eq!(found.into_iter().map(|row| row.content.edge_id).collect::<Vec<_>>(), edges);
}

pub(crate) async fn an_update_keeps_where_content_belongs_and_when_it_was_created(world: World) {
    let desk = Desk::new(world);
    let (store, tree, elsewhere) = (desk.world.database.clone(), desk.stored_tree().await, desk.stored_tree().await);
    let created = desk.world.clock.now();
    desk.world.clock.advance(Duration::from_secs(5));
    let block = ContentBlock {
        kind: "heading".into(),
        sequence: -7,
        raw_content: ODD.into(),
        display_content: String::new(),
        derived_content: Value::Null,
        sensitivity: Sensitivity::Secret,
        exportable: false,
        ..tree.block.clone()
    };
    desk.edit(vec![update(block.clone())]).await;
    let stored = store.block(block.block_id).await.unwrap();
    assert_eq!((stored.created_at, stored.updated_at), (created, desk.world.clock.now()));
    assert_eq!(stored.content, block);
    // Nothing else is touched.
    assert_eq!(store.document(tree.document.document_id).await.unwrap().updated_at, created);
    assert_eq!(store.block(elsewhere.block.block_id).await.unwrap().content, elsewhere.block);

    let before = desk.everything().await;
    let moved: [Content; 5] = [
        Document { workspace_id: elsewhere.workspace.workspace_id, ..tree.document.clone() }.into(),
        ContentBlock { document_id: elsewhere.document.document_id, ..tree.block }.into(),
        Canvas { workspace_id: elsewhere.workspace.workspace_id, ..tree.canvas.clone() }.into(),
        CanvasNode { canvas_id: elsewhere.canvas.canvas_id, ..tree.node }.into(),
        CanvasEdge { canvas_id: elsewhere.canvas.canvas_id, ..tree.edge }.into(),
    ];
    for content in moved {
        let refused = desk.try_edit(vec![update(content)]).await;
        assert!(is_invalid(&refused), "{refused:?}");
    }
    assert_eq!(desk.everything().await, before);
}

pub(crate) async fn references_stay_within_a_workspace_and_a_canvas(world: World) {
    let desk = Desk::new(world);
    let (store, tree, elsewhere) = (desk.world.database.clone(), desk.stored_tree().await, desk.stored_tree().await);
    let ids = &*desk.world.ids;
    let before = desk.everything().await;
    let refused: [ContentChange; 6] = [
        create(CanvasNode { block_id: Some(elsewhere.block.block_id), ..desk.node(&tree.canvas) }),
        update(CanvasNode { block_id: Some(elsewhere.block.block_id), ..tree.node.clone() }),
        create(CanvasNode { block_id: Some(BlockId::fresh(ids)), ..desk.node(&tree.canvas) }),
        create(CanvasEdge { to_node: elsewhere.node.node_id, ..desk.edge(&tree.node, &tree.other) }),
        create(CanvasEdge { from_node: CanvasNodeId::fresh(ids), ..desk.edge(&tree.node, &tree.other) }),
        update(CanvasEdge { to_node: elsewhere.node.node_id, ..tree.edge.clone() }),
    ];
    for change in refused {
        let refused = desk.try_edit(vec![change]).await;
        assert!(is_invalid(&refused), "{refused:?}");
    }
    assert_eq!(desk.everything().await, before);

    // A node stays as it is when its block goes, and can be changed all the same; but nobody new shows that block.
    desk.edit(vec![delete(tree.block.block_id)]).await;
    desk.edit(vec![update(CanvasNode { x: 7.0, ..tree.node.clone() })]).await;
    let nodes = store.canvas_nodes(tree.canvas.canvas_id).await.unwrap();
    assert_eq!((nodes[0].content.x, nodes[0].content.block_id), (7.0, Some(tree.block.block_id)));
    let another = CanvasNode { block_id: Some(tree.block.block_id), ..tree.other };
    assert!(is_invalid(&desk.try_edit(vec![update(another)]).await));
    desk.edit(vec![update(CanvasNode { block_id: None, ..tree.node })]).await;
}

pub(crate) async fn unknown_content_is_not_found(world: World) {
    let desk = Desk::new(world);
    let (store, tree, ids) = (&desk.world.database, desk.tree(), &*desk.world.ids);
    assert!(is_missing(&store.workspace(WorkspaceId::fresh(ids)).await, "workspace"));
    assert!(is_missing(&store.document(DocumentId::fresh(ids)).await, "document"));
    assert!(is_missing(&store.block(BlockId::fresh(ids)).await, "block"));
    assert!(is_missing(&store.canvas(CanvasId::fresh(ids)).await, "canvas"));
    assert_eq!(store.blocks(DocumentId::fresh(ids)).await.unwrap(), []);
    assert_eq!(store.canvas_nodes(CanvasId::fresh(ids)).await.unwrap(), []);
    assert_eq!(store.canvas_edges(CanvasId::fresh(ids)).await.unwrap(), []);
    for content in tree.contents() {
        let kind = content.id().kind().as_str();
        assert!(is_missing(&desk.try_edit(vec![update(content.clone())]).await, kind));
        assert!(is_missing(&desk.try_edit(vec![delete(content.id())]).await, kind));
    }
    assert!(is_missing(&desk.try_edit(vec![create(tree.document)]).await, "workspace"));
    assert!(is_missing(&desk.try_edit(vec![create(tree.block)]).await, "document"));
    assert!(is_missing(&desk.try_edit(vec![create(tree.node)]).await, "canvas"));
    let stale =
        ContentChange::Delete { id: CanvasEdgeId::fresh(ids).into(), base: Some(EventId::from_uuid(ids.uuid())) };
    assert!(is_missing(&desk.try_edit(vec![stale]).await, "canvas_edge"));
    assert_eq!(desk.events().await, []);
}
