//! Users: who can order. gRPC alone.
//!
//! Each instance begins with the same five people, so that reads give the same answer anywhere.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::stream::{self, BoxStream, StreamExt};
use http::StatusCode;
use tonic::{Request, Response, Status};

use crate::{
    failure::Failure,
    proto::{
        CreateUserRequest, GetUserRequest, StreamUsersRequest, UpdateUserRequest, User,
        users_server,
    },
    store::Store,
};

const PEOPLE: [&str; 5] = ["Ada", "Grace", "Edsger", "Barbara", "Leslie"];

/// The gRPC service.
pub(crate) fn service() -> users_server::UsersServer<Users> {
    users_server::UsersServer::new(Users::new())
}

/// The people that are known.
#[derive(Clone, Debug)]
pub(crate) struct Users(Arc<State>);

#[derive(Debug)]
struct State {
    users: Store<u64, User>,
    last_id: AtomicU64,
}

impl Users {
    fn new() -> Self {
        let users = Self(Arc::new(State { users: Store::new(), last_id: AtomicU64::new(0) }));
        for name in PEOPLE {
            users.add(name.to_owned(), format!("{}@example.com", name.to_lowercase()));
        }
        users
    }

    fn add(&self, name: String, email: String) -> User {
        let id = self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let user = User { id, name, email };
        self.0.users.put(id, user.clone());
        user
    }
}

#[tonic::async_trait]
impl users_server::Users for Users {
    type StreamUsersStream = BoxStream<'static, Result<User, Status>>;

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<User>, Status> {
        let id = request.into_inner().id;
        Ok(Response::new(self.0.users.get(&id).ok_or_else(|| Failure::not_found("user", id))?))
    }

    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<User>, Status> {
        let CreateUserRequest { name, email } = request.into_inner();
        if name.is_empty() || !email.contains('@') {
            let detail = "a user needs a name and an email address";
            return Err(Failure::new(StatusCode::BAD_REQUEST, detail).into());
        }
        Ok(Response::new(self.add(name, email)))
    }

    async fn update_user(
        &self,
        request: Request<UpdateUserRequest>,
    ) -> Result<Response<User>, Status> {
        let UpdateUserRequest { id, name, email } = request.into_inner();
        let changed = self.0.users.change(&id, |user| {
            if !name.is_empty() {
                user.name = name;
            }
            if !email.is_empty() {
                user.email = email;
            }
        });
        Ok(Response::new(changed.ok_or_else(|| Failure::not_found("user", id))?))
    }

    async fn stream_users(
        &self,
        request: Request<StreamUsersRequest>,
    ) -> Result<Response<Self::StreamUsersStream>, Status> {
        let limit = match request.into_inner().limit {
            0 => usize::MAX,
            limit => limit as usize,
        };
        let users = self.0.users.all();
        Ok(Response::new(stream::iter(users.into_iter().map(Ok)).take(limit).boxed()))
    }
}
