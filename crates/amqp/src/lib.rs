//! AMQP 0-9-1 in front of the broker, for applications that were written for RabbitMQ.
