drop table lead_tag;
drop table lead_identity;
drop table lead;
