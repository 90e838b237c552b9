//! The transactional store beneath everything asynchronous: logs, queues and maps under one transaction, durable before it answers.
