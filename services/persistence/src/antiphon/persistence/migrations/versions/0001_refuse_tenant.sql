-- Fail: a session belongs to the tenant of its first event. Called only if that is violated.
create function refuse_tenant(p_session text, p_tenant text) returns integer
language plpgsql
as $$
begin
    raise exception 'session % is not of tenant %', p_session, p_tenant
          using errcode = 'invalid_parameter_value';
end
$$
