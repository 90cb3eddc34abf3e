-- One database for each service that has one; the services make their tables themselves.
CREATE DATABASE data_ingest;
CREATE DATABASE trainer;
CREATE DATABASE evaluator;
CREATE DATABASE registry;
CREATE DATABASE rollout;
CREATE DATABASE drift;
