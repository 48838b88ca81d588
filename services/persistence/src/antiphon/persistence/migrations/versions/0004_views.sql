-- Postgres cannot take a document apart that has \u0000 in it: U+FFFD stands for it in the rows that are kept.
create temporary table sessions_before on commit drop as
select session_id, tenant, status, flow_id, flow_revision, user_id, created_at, updated_at, turns, sequence,
       regexp_replace(state::text, '(?<!\\)((\\\\)*)\\u0000', '\1\\ufffd', 'g')::json as state,
       language, ended_at, reason
  from sessions;
create temporary table turns_before on commit drop as select * from turns;
drop table sessions, turns;
create table sessions (
    session_id text collate "C" not null,
    tenant text collate "C" not null,
    created_at timestamptz not null,
    flow_id text collate "C",
    flow_revision integer,
    user_id text collate "C",
    room text collate "C",
    language text,
    ended_at timestamptz,
    reason text,
    metadata json,
    details json,
    participants json,
    usage json,
    status text collate "C" not null,
    agent_state text,
    user_state text,
    turns integer not null,
    turns_by_epoch json,
    skipped integer not null,
    updated_at timestamptz not null,
    sequence integer not null
) with (fillfactor = 70);
insert into sessions
select session_id, tenant, created_at,
       nullif(flow_id, ''), case when flow_id <> '' then flow_revision end, nullif(user_id, ''),
       nullif(left(state ->> 'room', 256), ''),
       language, ended_at, reason,
       state -> 'metadata',
       (
           select json_object_agg(
                      key,
                      case when key in ('flow_id', 'user_id', 'room') and value::text = '""' then null
                           when key = 'flow_revision' and flow_id = '' then null
                           else value
                      end
                  )
             from json_each(state)
            where key not in (
                      'session_id', 'tenant', 'status', 'agent_state', 'user_state', 'turns', 'updated_at',
                      'sequence', 'metadata', 'participants', 'usage'
                  )
       ),
       state -> 'participants', state -> 'usage',
       status, state ->> 'agent_state', state ->> 'user_state',
       turns, case when turns > 0 then json_build_object('', turns) end, 0, updated_at, sequence
  from sessions_before;
create table turns (
    session_id text collate "C" not null,
    epoch text collate "C" not null,
    turn integer not null,
    tenant text collate "C" not null,
    agent_id text not null,
    state text not null,
    interrupted boolean not null,
    recovered boolean not null,
    occurred_at timestamptz not null,
    sequence integer not null,
    first_sequence integer not null,
    tool_call_ids json not null,
    metrics json not null,
    started_at timestamptz,
    user_text text,
    assistant_text text,
    assistant_text_generated text,
    language text,
    confidence double precision
);
insert into turns
select session_id, '', turn, tenant, agent_id, 'saved', interrupted, recovered, occurred_at, sequence, sequence,
       tool_call_ids, metrics, null, user_text, assistant_text, assistant_text_generated, language, confidence
  from turns_before;
alter table sessions add constraint sessions_pk primary key (session_id);
create index sessions_tenant_created_at_session_id_idx on sessions (tenant, created_at, session_id);
create index sessions_tenant_status_created_at_session_id_idx on sessions (tenant, status, created_at, session_id);
create index sessions_tenant_user_id_created_at_session_id_idx on sessions (tenant, user_id, created_at, session_id);
create index sessions_tenant_room_created_at_session_id_idx on sessions (tenant, room, created_at, session_id);
alter table turns add constraint turns_pk primary key (session_id, epoch, turn)
