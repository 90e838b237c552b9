//! Orders over gRPC.

use futures_util::stream::{BoxStream, StreamExt};
use tonic::{Request, Response, Status};

use super::Orders;
use crate::{
    proto::{
        CreateOrderRequest, GetOrderRequest, Order, StreamOrdersRequest,
        orders_server::{self, OrdersServer},
    },
    trace::Trace,
};

/// The gRPC service.
pub(crate) fn service(orders: Orders) -> OrdersServer<Orders> {
    OrdersServer::new(orders)
}

#[tonic::async_trait]
impl orders_server::Orders for Orders {
    type StreamOrdersStream = BoxStream<'static, Result<Order, Status>>;

    async fn create_order(
        &self,
        request: Request<CreateOrderRequest>,
    ) -> Result<Response<Order>, Status> {
        let trace = request.extensions().get::<Trace>().cloned().unwrap_or_default();
        Ok(Response::new(self.place(request.into_inner(), &trace).await?))
    }

    async fn get_order(
        &self,
        request: Request<GetOrderRequest>,
    ) -> Result<Response<Order>, Status> {
        Ok(Response::new(self.get(request.into_inner().id)?))
    }

    async fn stream_orders(
        &self,
        request: Request<StreamOrdersRequest>,
    ) -> Result<Response<Self::StreamOrdersStream>, Status> {
        Ok(Response::new(self.stream(request.into_inner()).map(Ok).boxed()))
    }
}
