//! A gRPC client for the shop's methods, with messages written as JSON.

use std::{collections::BTreeMap, str::FromStr};

use anyhow::{Context, Result, bail};
use http::uri::PathAndQuery;
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use tonic::{
    Request,
    metadata::{AsciiMetadataKey, MetadataMap},
    transport::{Channel, Endpoint},
};

use crate::{
    cli::Call,
    proto::{
        CreateOrderRequest, CreateUserRequest, GetOrderRequest, GetUserRequest, Order,
        StreamOrdersRequest, StreamUsersRequest, UpdateUserRequest, User,
    },
};

/// Makes the calls and prints each answer as one line of JSON.
pub(crate) async fn run(call: Call) -> Result<()> {
    let endpoint = Endpoint::from_shared(call.to.clone()).with_context(|| call.to.clone())?;
    let channel = endpoint.connect().await.with_context(|| format!("connect to {}", call.to))?;
    let mut client =
        Client { grpc: tonic::client::Grpc::new(channel), call, seen: BTreeMap::new() };
    for _ in 0..client.call.repeat {
        match (client.call.service.as_str(), client.call.method.as_str()) {
            ("users", "GetUser") => client.unary::<GetUserRequest, User>().await?,
            ("users", "CreateUser") => client.unary::<CreateUserRequest, User>().await?,
            ("users", "UpdateUser") => client.unary::<UpdateUserRequest, User>().await?,
            ("users", "StreamUsers") => client.streaming::<StreamUsersRequest, User>().await?,
            ("orders", "CreateOrder") => client.unary::<CreateOrderRequest, Order>().await?,
            ("orders", "GetOrder") => client.unary::<GetOrderRequest, Order>().await?,
            ("orders", "StreamOrders") => client.streaming::<StreamOrdersRequest, Order>().await?,
            (service, method) => bail!("the shop has no gRPC method {service} {method}"),
        }
    }
    if client.call.instances {
        for (instance, answers) in &client.seen {
            println!("{instance} {answers}");
        }
    }
    Ok(())
}

struct Client {
    grpc: tonic::client::Grpc<Channel>,
    call: Call,
    /// Answers by the instance that gave them.
    seen: BTreeMap<String, u32>,
}

impl Client {
    async fn unary<Q, R>(&mut self) -> Result<()>
    where
        Q: Message + Default + DeserializeOwned + 'static,
        R: Message + Default + Serialize + 'static,
    {
        let (request, path) = self.prepare::<Q>()?;
        self.grpc.ready().await?;
        let codec = tonic_prost::ProstCodec::<Q, R>::default();
        let answer = self.grpc.unary(request, path, codec).await.map_err(refused)?;
        self.saw(answer.metadata());
        self.print(answer.get_ref())
    }

    async fn streaming<Q, R>(&mut self) -> Result<()>
    where
        Q: Message + Default + DeserializeOwned + 'static,
        R: Message + Default + Serialize + 'static,
    {
        let (request, path) = self.prepare::<Q>()?;
        self.grpc.ready().await?;
        let codec = tonic_prost::ProstCodec::<Q, R>::default();
        let answer = self.grpc.server_streaming(request, path, codec).await.map_err(refused)?;
        self.saw(answer.metadata());
        let mut messages = answer.into_inner();
        while let Some(message) = messages.message().await.map_err(refused)? {
            self.print(&message)?;
        }
        Ok(())
    }

    /// The request with its metadata, and the path of the method.
    fn prepare<Q: DeserializeOwned>(&self) -> Result<(Request<Q>, PathAndQuery)> {
        let call = &self.call;
        let message = serde_json::from_str(&call.message)
            .with_context(|| format!("`{}` is not a request of {}", call.message, call.method))?;
        let mut request = Request::new(message);
        request.set_timeout(call.timeout);
        for header in &call.headers {
            let (name, value) = header
                .split_once(':')
                .with_context(|| format!("`{header}` is not `name: value`"))?;
            request
                .metadata_mut()
                .insert(AsciiMetadataKey::from_str(name.trim())?, value.trim().parse()?);
        }
        let service = if call.service == "users" { "Users" } else { "Orders" };
        let path = format!("/weft.shop.v1.{service}/{}", call.method);
        Ok((request, PathAndQuery::from_maybe_shared(path)?))
    }

    fn saw(&mut self, metadata: &MetadataMap) {
        let instance = metadata.get("x-shop-instance").and_then(|name| name.to_str().ok());
        *self.seen.entry(instance.unwrap_or("unknown").to_owned()).or_default() += 1;
    }

    fn print(&self, message: &impl Serialize) -> Result<()> {
        if !self.call.instances {
            println!("{}", serde_json::to_string(message)?);
        }
        Ok(())
    }
}

fn refused(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{:?}: {}", status.code(), status.message())
}
