//! The HTTP, SSE and WebSocket front-end of the broker; push delivery; answers that come later.
