//! The component itself: what it may do, how large it is, and how other programs run it.

use std::time::Duration;

use cimd_cache::{COMPONENT, Cache, sql, statements};
use support::{Database, HOUR, ID, document, hit, json_of, row, version};
use wasmtime::component::{Component, Linker, Val, types::ComponentItem};
use wasmtime::{Engine, Store};

/// 9: it has no way to fetch anything, to know the time, or to keep a secret.
#[test]
fn the_only_import_is_sql() {
    let engine = Engine::default();
    let component = Component::new(&engine, COMPONENT).unwrap();
    let component = component.component_type();
    let imports: Vec<_> = component.imports(&engine).map(|(name, _)| name.to_owned()).collect();
    assert_eq!(imports, ["cimd:cache/sql@0.1.0"]);
    let exports: Vec<_> = component.exports(&engine).map(|(name, _)| name.to_owned()).collect();
    assert_eq!(exports, ["cimd:cache/cache@0.1.0", "cimd:cache/maintenance@0.1.0"]);
    let (_, import) = component.imports(&engine).next().unwrap();
    let ComponentItem::ComponentInstance(import) = import.ty else { panic!("sql is no interface") };
    let functions =
        import.exports(&engine).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
    assert_eq!(functions.count(), 1);
}

#[test]
fn it_is_small() {
    assert!(COMPONENT.len() < 110_000, "{} bytes", COMPONENT.len());
}

/// A program with a wasmtime of its own adds the import to its linker.
#[tokio::test]
async fn it_runs_under_a_foreign_linker() {
    let database = Database::new().await;
    database.node().put(ID, &document(1), HOUR, None).await.unwrap();

    let lent = Cache::builder().database_url(&database.app_url()).build_sql().unwrap();
    let engine = Engine::default();
    let mut linker: Linker<sql::Sql> = Linker::new(&engine);
    sql::add_to_linker(&mut linker, |sql| sql.view()).unwrap();
    let mut store = Store::new(&engine, lent);
    let component = Component::new(&engine, COMPONENT).unwrap();
    let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
    let interface = instance.get_export_index(&mut store, None, "cimd:cache/cache@0.1.0").unwrap();
    let get = instance.get_export_index(&mut store, Some(&interface), "get").unwrap();
    let get = instance.get_func(&mut store, get).unwrap();
    let mut results = [Val::Bool(false)];
    get.call_async(&mut store, &[Val::String(ID.to_owned())], &mut results).await.unwrap();

    let Val::Result(Ok(Some(lookup))) = &results[0] else { panic!("{results:?}") };
    let Val::Variant(case, Some(entry)) = lookup.as_ref() else { panic!("{lookup:?}") };
    let Val::Record(fields) = entry.as_ref() else { panic!("{entry:?}") };
    let Val::String(metadata) = &fields[0].1 else { panic!("{fields:?}") };
    assert_eq!((case.as_str(), json_of(metadata)), ("hit", json_of(&document(1))));
}

/// What such a program had sent is done, even if it has dropped the call, and its instance with it.
#[tokio::test]
async fn a_statement_of_a_foreign_instance_is_run_to_its_end() {
    let database = Database::new().await;
    let sql = Cache::builder().database_url(&database.app_url()).write_connections(1).build_sql().unwrap();
    let engine = Engine::default();
    let mut linker: Linker<sql::Sql> = Linker::new(&engine);
    sql::add_to_linker(&mut linker, |sql| sql.view()).unwrap();
    let component = Component::new(&engine, COMPONENT).unwrap();
    let mut admin = database.admin().await;
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("lock table cimd_cache.client_id_metadata").await.unwrap();
    let put = async {
        let mut store = Store::new(&engine, sql.clone());
        let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
        let interface = instance.get_export_index(&mut store, None, "cimd:cache/cache@0.1.0").unwrap();
        let put = instance.get_export_index(&mut store, Some(&interface), "put").unwrap();
        let put = instance.get_func(&mut store, put).unwrap();
        let expiry = Val::Variant("after".to_owned(), Some(Box::new(Val::U64(3_600))));
        let arguments = [Val::String(ID.to_owned()), Val::String(document(1)), expiry, Val::Option(None)];
        put.call_async(&mut store, &arguments, &mut [Val::Bool(false)]).await.unwrap();
    };
    assert!(tokio::time::timeout(Duration::from_millis(200), put).await.is_err());
    lock.rollback().await.unwrap();
    let stored = async { while row(&admin, ID).await.is_none() {} };
    tokio::time::timeout(Duration::from_secs(10), stored).await.unwrap();
}

#[tokio::test]
async fn a_fresh_instance_for_each_call_answers_the_same() {
    let database = Database::new().await;
    let builder = Cache::builder().database_url(&database.app_url());
    let node = builder.max_instance_reuse_count(1).build().unwrap();
    for number in 0..20 {
        node.put(ID, &document(number), HOUR, None).await.unwrap();
        assert_eq!(version(&node.get(ID).await.unwrap()), Some(number));
        hit(&node, ID).await;
    }
}

/// The role that the host connects as can run every statement of the list, and the list has no other.
#[tokio::test]
async fn every_statement_of_the_list_can_be_prepared_by_the_app_role() {
    let database = Database::new().await;
    let (app, connection) =
        tokio_postgres::connect(&database.app_url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for statement in statements::ALL {
        let prepared = app.prepare(statement.sql).await.unwrap();
        let name = |of: &tokio_postgres::types::Type| of.name().to_owned();
        let named = |of: &statements::Type| match of {
            statements::Type::Boolean => "bool".to_owned(),
            statements::Type::Int64 => "int8".to_owned(),
            statements::Type::Text => "text".to_owned(),
        };
        let parameters: Vec<_> = prepared.params().iter().map(name).collect();
        let columns: Vec<_> = prepared.columns().iter().map(|column| name(column.type_())).collect();
        assert_eq!(
            parameters,
            statement.parameters.iter().map(named).collect::<Vec<_>>(),
            "{}",
            statement.name
        );
        assert_eq!(columns, statement.columns.iter().map(named).collect::<Vec<_>>(), "{}", statement.name);
    }
}
