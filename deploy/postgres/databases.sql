-- A database for each service and one for the sandbox provider: the services share a server here, never a database.
create database settle_order;
create database settle_payment;
create database settle_inventory;
create database settle_shipping;
create database settle_notification;
create database settle_orchestrator;
create database settle_provider;
