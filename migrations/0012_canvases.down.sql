DROP TABLE IF EXISTS canvas_edges;

DROP TABLE IF EXISTS canvas_nodes;

DROP TABLE IF EXISTS canvases;
